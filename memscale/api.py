"""The verbs of memscale as Python functions: plan, run, status, results, report, evaluate, retry, cancel, reconcile.

Each has the meaning of the verb of the same name on the command line (`run` is `sweep`, `report` is `figures`), which
reads words, calls the function here and prints what it returns. Nothing here prints: what takes long reports to an
`Output` that the caller passes. Importing this module imports neither torch nor mlflow nor hydra nor pandas.

Sweeps are found by name in `./sweeps`, runs under `$MEMSCALE_RUNS` or `./runs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from memscale.launch.estimates import Estimate
    from memscale.launch.evaluate import Evaluation
    from memscale.launch.finish import Report
    from memscale.launch.overview import SweepStatus
    from memscale.launch.planned import PlannedSweep
    from memscale.launch.progress import Output
    from memscale.launch.start import SweepOutcome
    from memscale.planning.plan import Plan
    from memscale.planning.resolution import Resolution


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """A planned sweep, and what it costs."""

    planned: PlannedSweep
    estimate: Estimate
    """Time, disk and memory, what of it is done, and the sweep's limits that it exceeds."""
    resolution: Resolution
    """The smallest differences that it could see, and what that rests on."""

    @property
    def plan(self) -> Plan:
        """The runs, what was left out, and why: see `memscale.planning.plan.Plan`."""
        return self.planned.plan

    def to_frame(self) -> pd.DataFrame:
        """Return a row a run, with the columns of `runs[]` of `memscale plan --json` (docs/interfaces.md)."""
        import pandas as pd

        from memscale.launch.convert import plan_row

        return pd.DataFrame([vars(plan_row(run)) for run in self.plan.runs])


def plan(sweep: str, overrides: Sequence[str] = ()) -> SweepPlan:
    """Plan a sweep: compose its file, solve the widths that it holds equal, and forecast its cost. Writes nothing.

    Args:
        sweep: A file of the sweeps folder, without `.yaml`.
        overrides: Hydra overrides, such as `"scale=node"` or `"families.moe.num_experts=16"`.

    Returns:
        The plan. Its compared runs have rates and run ids once the tuning runs of an earlier launch have chosen them.

    Raises:
        ConfigError: The sweep, a key or a value cannot be used; the message names the file.
        PlanError: No plan meets the sweep's requirements.
        DataError: A data source is missing or differs from the sweep's description.

    Example:
        >>> planned = plan("memory_vs_moe", ["scale=laptop", "launcher=local"])
        >>> table = planned.to_frame()
        >>> sorted(table["family"].unique())
        ['dense', 'memory_plus', 'moe']
        >>> bool((table["flops_mismatch"].abs() < 0.02).all())  # equal FLOPs per token, against the dense model
        True

    """
    from memscale.launch.estimates import estimate
    from memscale.launch.planned import plan_sweep
    from memscale.launch.resolution import stated_resolution

    planned = plan_sweep(sweep, overrides)
    return SweepPlan(
        planned=planned,
        estimate=estimate(planned.plan, planned.paths),
        resolution=stated_resolution(planned.plan, planned.paths),
    )


def run(sweep: str | SweepPlan, overrides: Sequence[str] = (), *, output: Output | None = None) -> SweepOutcome:
    """Train what a sweep lacks, evaluate it, record it in MLflow, and write its report; on SLURM, submit it.

    A sweep that was interrupted goes on from its files. Runs with a result are not trained again.

    Args:
        sweep: Its name, or a plan that `plan` returned.
        overrides: Hydra overrides, where a name is given.
        output: Where a person reads how far it is; None: nowhere.

    Returns:
        How the sweep is left: `done`; `running`, where SLURM's jobs go on by themselves; or `needs_attention`, with the
        runs that were given up and why.

    Raises:
        PlanError: What is left costs more than the sweep's limits allow.
        MemscaleError: Another launcher of this sweep is at work, its data cannot be prepared, or SLURM refuses a job.

    """
    from memscale.launch.estimates import refuse_above_limits
    from memscale.launch.progress import SILENT
    from memscale.launch.resolution import affordable
    from memscale.launch.start import SweepOutcome, nothing_to_train, start
    from memscale.launch.states import DONE

    planned = plan(sweep, overrides) if isinstance(sweep, str) else sweep
    if nothing_to_train(planned.planned, planned.estimate.forecast.runs_left):
        num_runs = len(planned.plan.runs)
        return SweepOutcome(state=DONE, num_runs=num_runs, num_done=num_runs)
    affords = affordable(planned.plan, planned.estimate, planned.planned.paths)
    refuse_above_limits(planned.plan, planned.estimate, affords)
    return start(planned.planned, output or SILENT)


def reconcile(sweep: str, *, to_the_end: bool = False, output: Output | None = None) -> SweepOutcome:
    """Take the next step of a sweep that was launched on SLURM, as its controller jobs do. Safe at any time.

    The step observes every run, records how attempts ended, submits what has to be trained, opens the next stage, and
    when all runs have ended mirrors them into MLflow and builds the report.

    Args:
        sweep: Its name.
        to_the_end: Take steps until every run has ended.
        output: Where a person reads what happened; None: nowhere.

    Raises:
        RecordError: The sweep was not launched on SLURM, or a file of it is damaged.

    """
    from memscale.launch.progress import SILENT
    from memscale.launch.start import reconcile_launched

    return reconcile_launched(sweep, output or SILENT, to_the_end=to_the_end)


def status(sweep: str) -> SweepStatus:
    """Return the state of every run of a launched sweep, those that need a person first, with what mends them.

    Args:
        sweep: Its name.

    Raises:
        RecordError: The sweep was not launched, or a file of it is damaged.

    """
    from memscale.launch.overview import sweep_status
    from memscale.launch.planned import launched

    return sweep_status(*launched(sweep))


def results(sweep: str) -> pd.DataFrame:
    """Return the results table of a launched sweep: a row for every run whose stage is open, done or not.

    The same table is written to `results.parquet` and `results.csv` in the sweep's folder. Its columns are those of
    docs/interfaces.md: losses are in nats per token, FLOPs are of one run, times in seconds.

    Args:
        sweep: Its name.

    Raises:
        RecordError: The sweep was not launched, or a file of it is damaged.

    """
    from memscale.launch.finish import results_frame
    from memscale.launch.planned import launched

    return results_frame(*launched(sweep))


def report(sweep: str, out: str | Path | None = None) -> Report:
    """Build the results table, the figures and the report of a launched sweep anew from the files of its runs.

    Args:
        sweep: Its name.
        out: The folder of the report, for who may only read the sweep's; None: there.

    Returns:
        The answer to the sweep's question in a sentence, and where the files are.

    Raises:
        NoReportError: The results do not make a report yet.
        RecordError: The sweep was not launched, or a file of it is damaged.

    """
    from memscale.launch.finish import build_report
    from memscale.launch.planned import launched

    paths, _ = launched(sweep)
    return build_report(paths, Path(out) if out is not None else None)


def evaluate(directory: str | Path, tasks: Sequence[str] | None = None, *, device: str = "cpu") -> Evaluation:
    """Evaluate the newest weights of a trained run again; its result stays as it is.

    Args:
        directory: The run's folder, `runs/<sweep>/<run>-<run_id>`.
        tasks: Names of tasks; None: all that the run's data offers by default.
        device: `cpu` or `cuda`.

    Raises:
        RecordError: `directory` is no run's folder, or has no checkpoint that can be read.
        ConfigError: A task is not known.

    """
    from memscale.launch.evaluate import evaluate_run

    return evaluate_run(Path(directory), tasks, device)


def retry(sweep: str, run: str | None = None) -> list[str]:
    """Let failed, lost and damaged runs be trained again by the next `run`; return their names.

    Args:
        sweep: The sweep's name.
        run: A run's name; None: every failed, lost or damaged run.

    Raises:
        RecordError: The sweep was not launched, has no such run, or a damaged file cannot be moved aside.

    """
    from memscale.launch.control import free_runs

    return free_runs(sweep, run)


def cancel(sweep: str, run: str | None = None) -> bool:
    """Ask a sweep, or one of its runs, to stop at the next optimizer step with a checkpoint.

    Args:
        sweep: The sweep's name.
        run: A run's name; None: the whole sweep.

    Returns:
        False where nothing had to be cancelled.

    Raises:
        RecordError: The sweep was not launched, or has no such run.
        SlurmError: SLURM does not answer.

    """
    from memscale.launch.control import cancel_runs, cancel_sweep

    return cancel_sweep(sweep) if run is None else bool(cancel_runs(sweep, run))
