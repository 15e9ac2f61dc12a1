"""What a plan will cost here: time, disk and memory, and whether that is within the sweep's limits.

Computed once for a verb, from the plan, the speeds of this machine and the runs that are done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memscale.config.launcher import Launcher
from memscale.errors import PlanError
from memscale.launch.costs import cost_of, done_names, known_points, known_speeds, launcher_of
from memscale.launch.device_memory import device_memory_bytes
from memscale.launch.formatting import duration, quantity, size
from memscale.launch.workers import workers_for
from memscale.planning.device_memory import DeviceFit, fit_on_device
from memscale.planning.forecast import Forecast, forecast
from memscale.planning.plan import Plan
from memscale.records.layout import SweepPaths

Cell = tuple[str, str]
"""A series and a budget."""


@dataclass(frozen=True, kw_only=True)
class Excess:
    """A limit of the sweep, and the forecast above it."""

    name: str
    """The key under `limits`."""
    forecast: float
    limit: float

    @property
    def text(self) -> str:
        """The limit and the excess, for a person."""
        ratio = self.forecast / self.limit
        by = f"{ratio:.3g} times as much" if ratio >= 2 else f"{ratio - 1:.1%} more"
        return f"limits.{self.name} is {self.limit:g}, and what is left needs {self.forecast:.3g}, {by}"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a plan costs on its launcher, and what of it is done."""

    forecast: Forecast
    seconds: Mapping[str, float]
    """Of each run, by name."""
    done: frozenset[str]
    fits: Mapping[Cell, DeviceFit]
    device: str
    """'cpu' or 'cuda'."""
    device_bytes: float | None
    excess: tuple[Excess, ...]
    num_calibrated: int
    """Points of this machine from calibration steps."""
    num_finished: int
    """Points of this machine from finished runs."""
    flops_left: float

    @property
    def worst(self) -> tuple[Cell, DeviceFit]:
        """The cell that needs most memory on one device."""
        return max(self.fits.items(), key=lambda item: item[1].peak_bytes)

    @property
    def basis(self) -> str:
        """What the times rest on, for a person."""
        if not self.forecast.measured:
            guessed = ", ".join(self.forecast.guessed_families)
            return f"guess: nothing near was measured here for {guessed}; --calibrate measures it"
        points = [(self.num_calibrated, "calibrated models"), (self.num_finished, "models of finished runs")]
        text = " and ".join(f"{count} {what}" for count, what in points if count)
        return f"measured on this machine: {text or 'nothing is left'}"


def estimate(plan: Plan, paths: SweepPaths) -> Estimate:
    """Raises ConfigError where the launcher's memory cannot be read."""
    sweep, launcher = plan.sweep, plan.sweep.launcher
    workers = workers_for(launcher, len(plan.runs))
    done = done_names(paths.root, plan.runs)
    stages = [plan.stage(stage) for stage in plan.stages]
    cost = forecast(
        [[cost_of(sweep, run, done=run.name in done) for run in stage] for stage in stages],
        known_speeds(workers, launcher),
        workers=len(workers),
    )
    names = [run.name for stage in stages for run in stage]
    sources = Counter(point.source for point in known_points(workers))
    device_bytes = device_memory_bytes(launcher, workers)
    return Estimate(
        forecast=cost,
        seconds=dict(zip(names, cost.run_seconds, strict=True)),
        done=done,
        fits=_fits(plan, len(workers)),
        device=workers[0].device,
        device_bytes=device_bytes,
        excess=_excess(plan, cost),
        num_calibrated=sources["calibration"],
        num_finished=sources["run"],
        flops_left=sum(run.flops_train for run in plan.runs if run.name not in done),
    )


def _fits(plan: Plan, num_workers: int) -> dict[Cell, DeviceFit]:
    length = plan.sweep.scale.sequence_length
    devices: dict[Launcher, tuple[str, float | None]] = {}
    fits: dict[Cell, DeviceFit] = {}
    for run in plan.runs:
        if (run.series, run.budget) in fits:
            continue
        asks = launcher_of(plan.sweep, run)
        if asks not in devices:
            workers = workers_for(asks, num_workers)
            devices[asks] = workers[0].device, device_memory_bytes(asks, workers)
        device, device_bytes = devices[asks]
        fits[run.series, run.budget] = fit_on_device(
            run.architecture,
            length,
            -(-(run.batch_tokens // length) // asks.processes_per_run),
            device_bytes=device_bytes,
            precision="bfloat16" if device == "cuda" else "float32",
            averaged=plan.sweep.recipe.average is not None,
            matrix_optimizer=plan.sweep.recipe.matrix_optimizer,
        )
    return fits


def _excess(plan: Plan, cost: Forecast) -> tuple[Excess, ...]:
    limits = plan.sweep.limits
    needs = (
        ("gpu_hours", cost.gpu_hours, limits.gpu_hours),
        ("disk_gb", cost.disk_left_bytes / 1e9, limits.disk_gb),
    )
    return tuple(
        Excess(name=name, forecast=need, limit=limit)
        for name, need, limit in needs
        if limit is not None and need > limit
    )


def refuse_above_limits(plan: Plan, cost: Estimate, affords: str = "") -> None:
    """Raise PlanError where what is left costs more than the sweep allows; `affords` says what it does allow."""
    if not cost.excess:
        return
    text = "; ".join(f"{one.text}" for one in cost.excess)
    raised = " ".join(f"limits.{one.name}={rounded_up(one.forecast)}" for one in cost.excess)
    raise PlanError(
        f"the sweep {plan.sweep.name} was not started: {text}. {numbers_behind(cost)} ({cost.basis}). To start it all "
        f"the same raise the limit ({raised}); or lower scale.seeds or the budgets"
        + (f". {affords}" if affords else "")
    )


def numbers_behind(cost: Estimate) -> str:
    """The figures that the limits are held against, for a person."""
    left = cost.forecast
    return (
        f"{left.runs_left} runs are left: {quantity(cost.flops_left)} training FLOPs, "
        f"{left.gpu_hours:.3g} {unit_hours(cost)}, {duration(left.seconds)} on {left.workers} workers, "
        f"{size(left.disk_left_bytes)} of checkpoints"
    )


def unit_hours(cost: Estimate) -> str:
    """Return what the estimate's hours are hours of."""
    return "GPU hours" if cost.device == "cuda" else "worker hours"


def rounded_up(value: float) -> str:
    """A value with two digits, not below the given one."""
    text = f"{value:.2g}"
    return text if float(text) >= value else f"{value * 1.06:.2g}"


def estimate_json(plan: Plan, cost: Estimate) -> dict[str, Any]:
    """The `forecast` of `plan --json`; documented in docs/interfaces.md."""
    left, limits = cost.forecast, plan.sweep.limits
    (series, budget), worst = cost.worst
    fits = [one.fits for one in cost.fits.values()]
    return {
        "seconds": left.seconds,
        "gpu_hours": left.gpu_hours,
        "disk_bytes": left.disk_bytes,
        "disk_left_bytes": left.disk_left_bytes,
        "runs_left": left.runs_left,
        "workers": left.workers,
        "measured": left.measured,
        "guessed_families": list(left.guessed_families),
        "peak_memory_bytes": worst.peak_bytes,
        "peak_memory_of": {"series": series, "budget": budget},
        "device": cost.device,
        "device_memory_bytes": cost.device_bytes,
        "fits": None if None in fits else all(fits),
        "memory": [{"series": s, "budget": b, **_fit_json(one)} for (s, b), one in cost.fits.items()],
        "limits": {
            "gpu_hours": limits.gpu_hours,
            "disk_gb": limits.disk_gb,
            "exceeded": [one.name for one in cost.excess],
        },
    }


def _fit_json(one: DeviceFit) -> dict[str, Any]:
    remedy = one.remedy
    return {
        "micro_batch_sequences": one.micro_batch_sequences,
        "peak_memory_bytes": one.peak_bytes,
        "fits": one.fits,
        "needs": {
            "num_gpus": remedy.parallelism.num_gpus,
            "sharding": remedy.parallelism.sharding,
            "micro_batch_sequences": remedy.micro_batch_sequences,
            "peak_memory_bytes": remedy.peak_bytes,
        }
        if remedy is not None
        else None,
    }
