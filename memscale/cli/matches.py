"""What the runs of a plan share, how well they share it, and by how much they differ in what nobody held equal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from memscale.launch.formatting import percent
from memscale.planning.accounting import count
from memscale.planning.plan import Plan
from memscale.planning.planned_runs import PlannedRun
from memscale.planning.quantities import measure

NAMES = {
    "flops_per_token": "FLOPs per token",
    "active_params": "active parameters",
    "total_params": "total parameters",
    "decode_bytes": "bytes read per decoded token",
    "kv_cache_bytes": "bytes of keys and values",
    "training_memory": "training memory",
    "seconds_per_token": "seconds per token",
    "non_embedding_params": "non-embedding parameters",
    "table_params": "table parameters",
    "tokens": "tokens",
    "flops_train": "training FLOPs",
    "seconds_train": "training seconds",
}
"""The words of `matching`, as a person reads them."""
_IN_COUNTS = {
    "total_params": "params_total",
    "active_params": "params_active",
    "non_embedding_params": "params_non_embedding",
    "table_params": "params_table",
}
DENSE, SPARSE = "against dense", "between sparse models"


@dataclass(frozen=True, kw_only=True)
class Held:
    """A quantity that the sweep holds equal, and its worst mismatch."""

    quantity: str
    among: str
    """DENSE: relative to the budget's dense model. SPARSE: the largest of a budget over the smallest, minus one."""
    worst: float
    run: str | None
    """The run that has it; None where the plan has no such run."""


def held(plan: Plan) -> tuple[Held, ...]:
    """Return what the sweep holds equal, each with its worst mismatch: per token first, then among sparse models."""
    matching = plan.sweep.matching
    runs = _one_of_each(plan.runs)
    found = []
    for quantity in matching.equal_per_token:
        mismatch = [(dict(run.mismatch)[quantity], run.name) for run in runs if run.mismatch]
        worst, name = max(mismatch, key=lambda one: abs(one[0]), default=(0.0, None))
        found.append(Held(quantity=quantity, among=DENSE, worst=abs(worst), run=name))
    sparse = [run for run in runs if run.architecture.is_sparse]
    if matching.sparse_equal is not None:
        worst, name = _gap(sparse, matching.sparse_equal, plan.sweep.scale.sequence_length)
        found.append(Held(quantity=matching.sparse_equal, among=SPARSE, worst=worst, run=name))
    return tuple(found)


def _one_of_each(runs: Iterable[PlannedRun]) -> tuple[PlannedRun, ...]:
    """One run of each series and budget; its seeds and rates are matched alike."""
    return tuple({(run.series, run.budget): run for run in reversed(tuple(runs))}.values())[::-1]


def _gap(sparse: Sequence[PlannedRun], quantity: str, sequence_length: int) -> tuple[float, str | None]:
    """The largest over the smallest of a budget, minus one; and the run farthest from its budget's mean."""
    by_budget: dict[str, list[tuple[float, str]]] = {}
    for run in sparse:
        if quantity in _IN_COUNTS:
            value = float(getattr(run.counts, _IN_COUNTS[quantity]))
        else:
            value = measure(quantity, run.architecture, sequence_length)
        by_budget.setdefault(run.budget, []).append((value, run.name))
    worst: tuple[float, str | None] = (0.0, None)
    for here in by_budget.values():
        low, high = min(here), max(here)
        if worst[1] is None or high[0] / low[0] - 1 > worst[0]:
            worst = (high[0] / low[0] - 1, high[1])
    return worst


def flops_range(plan: Plan) -> tuple[float, float]:
    """The least and the largest difference in FLOPs per token from the dense model of the budget."""
    mismatch = [run.flops_mismatch for run in plan.runs]
    return min(mismatch), max(mismatch)


def looped_sizes(plan: Plan) -> dict[str, tuple[float, float]]:
    """Series of looped models -> the least and the largest ratio of their total parameters to the dense model's."""
    found: dict[str, list[float]] = {}
    for run in plan.runs:
        if run.architecture.loop is not None:
            dense = count(plan.by_budget[run.budget].dense, plan.sweep.scale.sequence_length)
            found.setdefault(run.series, []).append(run.counts.params_total / dense.params_total)
    return {series: (min(ratios), max(ratios)) for series, ratios in found.items()}


def matched_json(plan: Plan) -> dict[str, Any]:
    """The `matched` of `plan --json`; what is not held equal is null."""
    shared = held(plan)
    flops = next((one for one in shared if one.quantity == "flops_per_token"), None)
    params = next((one for one in shared if one.quantity == "total_params"), None)
    low, high = flops_range(plan)
    return {
        "flops_mismatch": flops.worst if flops is not None else None,
        "flops_mismatch_run": flops.run if flops is not None else None,
        "params_gap": params.worst if params is not None else None,
        "params_mismatch_run": params.run if params is not None else None,
        "flops_mismatch_range": [low, high],
        "looped_params_over_dense": {series: list(ends) for series, ends in looped_sizes(plan).items()},
        "length": plan.sweep.matching.equal_length,
        "held": [asdict(one) for one in shared],
    }


def matched_lines(plan: Plan) -> list[str]:
    """The same for a person."""
    shared, matching = held(plan), plan.sweep.matching
    text = [
        f"{NAMES[one.quantity]} {one.worst:.2%}" + (f" ({one.run}, {one.among})" if one.run else " (no such model)")
        for one in shared
    ]
    worst = f"; worst mismatch: {', '.join(text)}" if text else ""
    lines = [f"matched   {NAMES[matching.equal_length]} at every budget{worst}"]
    if not any(one.quantity == "flops_per_token" for one in shared):
        low, high = flops_range(plan)
        lines.append(
            f"not held  FLOPs per token differ by {percent(low, 1)} ... {percent(high, 1)} from the dense models'"
        )
    if "total_params" not in matching.equal:
        lines += [
            f"not held  total parameters of {series}: {low:.3g} ... {high:.3g} of the dense models'; layers are shared"
            for series, (low, high) in looped_sizes(plan).items()
        ]
    return lines
