"""How many seeds a sweep gets by what it is to resolve (`resolve` in its YAML).

The number follows from the configuration and the shipped tables of noise alone, so that the same files give the same
plan on every machine: the fewest seeds with which every pair of series resolves every named difference, but not fewer
than `scale.seeds`, and not more than `limits.seeds` and `limits.runs` allow. Where these are too few, the plan says
what would be needed and what it could see instead. Hours are a matter of the machine: they are held against
`limits.gpu_hours` when the sweep is started, as those of every plan.

Refuses a measure that the sweep does not have, or whose noise no table knows, and grids that name seeds themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from memscale.config.noise import NoiseRow
from memscale.config.sweep import Resolve, Sweep
from memscale.errors import PlanError
from memscale.planning.comparison import Design, Measure, design_of, measures_of
from memscale.planning.plan import Plan
from memscale.planning.plan_size import most_runs
from memscale.planning.resolution import resolution

_MOST = 1000
"""Seeds up to which it is worked out what a difference would take."""


@dataclass(frozen=True, kw_only=True)
class ChosenSeeds:
    """The seeds of a sweep by what it is to resolve, and what a person must know of the choice."""

    seeds: tuple[int, ...]
    notes: tuple[str, ...]


def choose_seeds(plan: Plan, noise: Sequence[NoiseRow]) -> ChosenSeeds:
    """Choose the seeds of a sweep that has `resolve`.

    Args:
        plan: The plan with `scale.seeds` as they are written, for its series and budgets.
        noise: The shipped tables of noise.

    Raises:
        PlanError: A measure is not of this sweep or its noise is not known, or the grid names seeds.
    """
    sweep = plan.sweep
    assert sweep.resolve is not None
    _refuse_seeds_in_grid(sweep)
    design, fitting = design_of(plan.runs), fitting_rows(noise, sweep)
    most, limit = _most_seeds(sweep)
    chosen, notes = max(len(sweep.scale.seeds), 2), list[str]()
    for key, target in sweep.resolve.targets():
        measure = _measure(sweep, key)
        wanted = fewest_seeds(design, measure, fitting, target=target, at=sweep.resolve.at, most=_MOST)
        if not any(row.measure == measure.column for row in fitting):
            raise PlanError(
                f"resolve.{key} is {target:g}, but no table of noise has a row for {measure.column} at the scale "
                f"{sweep.scale.name}. Add one to sweeps/noise/, measured or assumed, or remove resolve.{key}"
            )
        if wanted is None or wanted > most:
            needs = f"{wanted} seeds" if wanted is not None else f"more than {_MOST} seeds"
            seen = _seen(design.with_seeds(most), measure, fitting, sweep.resolve)
            notes.append(
                f"resolve.{key}={target:g} needs {needs}; {limit} allows {most}, with which the smallest difference "
                f"seen is {seen:.3g} {measure.unit}"
            )
        chosen = max(chosen, min(wanted or most, most))
    return ChosenSeeds(seeds=_extended(sweep.scale.seeds, chosen, sweep.recipe.tune_seeds), notes=tuple(notes))


def with_seeds(sweep: Sweep, seeds: tuple[int, ...]) -> Sweep:
    """Return the sweep with these seeds."""
    return replace(sweep, scale=replace(sweep.scale, seeds=seeds))


def fitting_rows(noise: Sequence[NoiseRow], sweep: Sweep) -> list[NoiseRow]:
    """Return the rows for a sweep's scale and data; those that name its data before those for any."""
    rows = [row for row in noise if row.scale in (sweep.scale.name, "") and row.data in (sweep.data.name, "")]
    return sorted(rows, key=lambda row: (row.data == "", row.scale == ""))


def fewest_seeds(
    design: Design, measure: Measure, noise: Sequence[NoiseRow], *, target: float, at: str, most: int
) -> int | None:
    """Return the fewest seeds in every cell with which every pair resolves `target`.

    Args:
        design: Series and budgets.
        measure: What is compared.
        noise: The noise of single runs.
        target: The difference to see, in the measure's unit.
        at: `largest` or `mean`.
        most: Seeds beyond which is not looked.

    Returns:
        None where `most` seeds are too few, or nothing can be said.
    """

    def resolves(num_seeds: int) -> bool:
        rows = [row for row in resolution(design.with_seeds(num_seeds), [measure], noise).rows if row.at == at]
        return bool(rows) and all(row.smallest_difference <= target for row in rows)

    low, high = 1, most
    if most < 2 or not resolves(most):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if resolves(middle) else (middle, high)
    return high


def _seen(design: Design, measure: Measure, noise: Sequence[NoiseRow], resolve: Resolve) -> float:
    rows = [row for row in resolution(design, [measure], noise).rows if row.at == resolve.at]
    return max((row.smallest_difference for row in rows), default=float("inf"))


def _measure(sweep: Sweep, key: str) -> Measure:
    """Return the sweep's measure of that key: of two recalls that of dense facts."""
    known = measures_of(sweep.data, scored=sweep.evaluate.tasks != ())
    found = next((measure for measure in known if measure.key == key), None)
    if found is None:
        raise PlanError(
            f"resolve.{key} is set, but the sweep {sweep.name} has no such measure; it has: "
            f"{', '.join(dict.fromkeys(one.key for one in known))}. Remove it, or add data that measure it"
        )
    return found


def _most_seeds(sweep: Sweep) -> tuple[int, str]:
    """Return the most seeds that the limits allow, and which limit it is."""
    limits, here = sweep.limits, most_runs(sweep)
    num_seeds = len(sweep.scale.seeds)
    one_more = with_seeds(sweep, _extended(sweep.scale.seeds, num_seeds + 1, sweep.recipe.tune_seeds))
    by_runs = num_seeds + (limits.runs - here) // (most_runs(one_more) - here)
    return (by_runs, "limits.runs") if by_runs < limits.seeds else (limits.seeds, "limits.seeds")


def _refuse_seeds_in_grid(sweep: Sweep) -> None:
    for number, block in enumerate(sweep.grid):
        if any(axis.key == "seed" for axis in (*block.product, *block.zip)):
            raise PlanError(
                f"resolve chooses scale.seeds, but grid[{number}] names seeds of its own. Remove `seed` from the grid, "
                "or remove resolve"
            )


def _extended(seeds: tuple[int, ...], wanted: int, tune_seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Return `seeds` and as many new ones, counting up, as make `wanted`; never a seed of the tuning runs."""
    found = list(seeds)
    seed = max(found) + 1
    while len(found) < wanted:
        if seed not in tune_seeds:
            found.append(seed)
        seed += 1
    return tuple(found)
