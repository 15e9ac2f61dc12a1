"""What the tuning of a plan costs beside its comparison, and what extensions of the grids may add to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from memscale.planning.plan import Plan
from memscale.planning.tuning import EXTENDED, TUNE, is_tuning, most_extra_points, points_of_rounds, seeds_of_round


@dataclass(frozen=True, kw_only=True)
class TuningCost:
    """The tuning of a plan, whether done or not."""

    rounds: tuple[str, ...]
    """A word for each round and extension that has runs, such as '12 points x 1 seed'."""
    num_runs: int
    share_of_flops: float
    """Of the training FLOPs of all runs."""
    share_of_seconds: float
    """Of the forecast time of all runs, on one worker each."""
    most_extra_runs: int
    """Runs that extensions of the grids may add which are not open yet: every best point at a corner each time."""
    most_extra_seconds: float
    """Their forecast time, on one worker each."""


def tuning_cost(plan: Plan, seconds: Mapping[str, float]) -> TuningCost | None:
    """Return what tuning costs; None where nothing is tuned.

    Args:
        plan: The plan.
        seconds: Forecast time of each run, by name.
    """
    tuning = [run for run in plan.runs if is_tuning(run.stage)]
    if not tuning:
        return None
    extra_runs, extra_seconds = 0, 0.0
    later = [stage for stage in plan.stages if stage.startswith(EXTENDED)]
    if later and plan.next_stage == later[0]:
        seeds = len(seeds_of_round(plan.sweep.recipe, 1))
        for run in {run.family_name: run for run in plan.stage(TUNE)}.values():
            more = seeds * most_extra_points(plan.sweep.recipe, has_table=run.architecture.has_table)
            extra_runs += more
            extra_seconds += more * seconds[run.name]
    return TuningCost(
        rounds=_rounds(plan),
        num_runs=len(tuning),
        share_of_flops=sum(run.flops_train for run in tuning) / sum(run.flops_train for run in plan.runs),
        share_of_seconds=sum(seconds[run.name] for run in tuning) / sum(seconds[run.name] for run in plan.runs),
        most_extra_runs=extra_runs,
        most_extra_seconds=extra_seconds,
    )


def _rounds(plan: Plan) -> tuple[str, ...]:
    recipe = plan.sweep.recipe
    found = []
    for number, points in enumerate(points_of_rounds(recipe), start=1):
        seeds = len(seeds_of_round(recipe, number))
        which = "all" if number == 1 else "the best"
        found.append(f"{which} {points} points x {seeds} seed{'s' if seeds > 1 else ''}")
    return tuple(found)


def tuning_lines(plan: Plan, seconds: Mapping[str, float], unit: str) -> Iterator[str]:
    """Yield how rates are tuned and what that costs, for a person; nothing where nothing is tuned.

    Args:
        plan: The plan.
        seconds: Forecast time of each run, by name.
        unit: What hours of the forecast are hours of.
    """
    tuning = tuning_cost(plan, seconds)
    if tuning is None:
        return
    yield (
        f"tuning    of each family {', then '.join(tuning.rounds)}: {tuning.num_runs} runs, "
        f"{tuning.share_of_flops:.0%} of the training FLOPs and {tuning.share_of_seconds:.0%} of the {unit} of the plan"
    )
    if tuning.most_extra_runs:
        hours = tuning.most_extra_seconds / 3600
        yield (
            f"          at most {tuning.most_extra_runs} runs ({hours:.3g} {unit}) more where a best point lies at the "
            "edge of its grid"
        )
