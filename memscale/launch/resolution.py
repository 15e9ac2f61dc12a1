"""What a plan can tell, stated before it is run and kept when it is launched; and what of it the limits afford."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from memscale.config.noise import NoiseRow
from memscale.launch.noise import known_noise, shipped_noise
from memscale.planning.comparison import MEASURES, design_of, measures_of
from memscale.planning.plan import Plan
from memscale.planning.resolution import LARGEST, LEVEL, MEAN, POWER, Resolution, ResolutionRow, resolution
from memscale.planning.resolve import choose_seeds, with_seeds
from memscale.records.layout import SweepPaths
from memscale.records.resolution_file import StatedRow, Statement, keep_statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from memscale.config.sweep import Sweep
    from memscale.launch.estimates import Estimate


def with_chosen_seeds(plan: Plan, make: Callable[[Sweep], Plan]) -> Plan:
    """Return the plan with the seeds that `resolve` asks for, made anew by `make`; without `resolve` the plan itself.

    Raises:
        ConfigError: A table of noise is none.
        PlanError: The sweep has no such measure, or its noise is not known.
    """
    if plan.sweep.resolve is None:
        return plan
    chosen = choose_seeds(plan, shipped_noise())
    if chosen.seeds != plan.sweep.scale.seeds:
        plan = make(with_seeds(plan.sweep, chosen.seeds))
    return replace(plan, notes=(*plan.notes, *chosen.notes))


def stated_resolution(plan: Plan, paths: SweepPaths) -> Resolution:
    """Return what a plan can tell by the noise that is known here. Raises ConfigError where a noise table is none."""
    measures = measures_of(plan.sweep.data, scored=plan.sweep.evaluate.tasks != ())
    return resolution(design_of(plan.runs), measures, _noise(plan, paths))


def _noise(plan: Plan, paths: SweepPaths) -> tuple[NoiseRow, ...]:
    measures = measures_of(plan.sweep.data, scored=plan.sweep.evaluate.tasks != ())
    return known_noise(plan.sweep, measures, paths, shipped_noise())


def keep_resolution(plan: Plan, paths: SweepPaths) -> None:
    """Keep what the plan can tell, as it is stated before its runs; what was stated for it before stays."""
    stated = stated_resolution(plan, paths)
    rows = tuple(StatedRow(**asdict(row)) for row in stated.rows)
    statement = Statement(plan_hash=plan.plan_hash, time=round(time.time(), 3), rows=rows, missing=stated.missing)
    keep_statement(paths, statement)


def resolution_lines(stated: Resolution) -> list[str]:
    """Return the lines that a person reads: a sentence, then each measure and what its noise rests on."""
    lines = [sentence] if (sentence := _sentence(stated)) else []
    for column in dict.fromkeys(row.measure for row in stated.rows):
        rows = [row for row in stated.rows if row.measure == column]
        first = rows[0]
        parts = [f"{_range(rows, at)} {words}" for at, words in ((LARGEST, "there"), (MEAN, "averaged over budgets"))]
        lines.append(
            f"  {column}: {', '.join(parts)}; a run strays {first.noise_std:.3g} {first.unit} ({first.source}: "
            f"{first.rests_on})"
        )
    return [*lines, *(f"  {text}" for text in stated.missing)]


def _sentence(stated: Resolution) -> str:
    found: dict[str, ResolutionRow] = {}
    for row in stated.rows:
        if row.at == LARGEST and (row.measure not in found or _wider(row, found[row.measure])):
            found[row.measure] = row
    if not found:
        return ""
    words = {measure.column: measure.words for measure in MEASURES}
    seen = [f"{words[name]} {row.smallest_difference:.3g} {row.unit}" for name, row in found.items()]
    seeds = min(row.num_seeds for row in found.values())
    return f"could see at the largest budget with {seeds} seeds and {POWER:.0%} power: {', '.join(seen)}"


def _wider(one: ResolutionRow, other: ResolutionRow) -> bool:
    return one.smallest_difference > other.smallest_difference


def _range(rows: Sequence[ResolutionRow], at: str) -> str:
    """Return the smallest differences of all pairs: one number, or the least and the largest."""
    values = sorted(row.smallest_difference for row in rows if row.at == at)
    low, high = f"{values[0]:.3g}", f"{values[-1]:.3g}"
    return f"{low} {rows[0].unit}" if low == high else f"{low} to {high} {rows[0].unit}"


def resolution_json(stated: Resolution) -> dict[str, Any]:
    """The `resolution` of `plan --json`; documented in docs/interfaces.md."""
    return {
        "power": POWER,
        "level": LEVEL,
        "rows": [asdict(row) for row in stated.rows],
        "missing": list(stated.missing),
    }


def affordable(plan: Plan, cost: Estimate, paths: SweepPaths) -> str:
    """Return how many of the plan's seeds `limits.gpu_hours` affords and what they could tell; '' where all of them."""
    limit = plan.sweep.limits.gpu_hours
    if limit is None or not any(one.name == "gpu_hours" for one in cost.excess):
        return ""
    left = [run for run in plan.runs if run.name not in cost.done]
    hours = cost.forecast.gpu_hours / max(sum(cost.seconds[run.name] for run in left), 1e-9)
    spent = hours * sum(cost.seconds[run.name] for run in left if run.stage != "compare")
    seeds = list(plan.sweep.scale.seeds)
    num_seeds = 0
    for seed in seeds:
        spent += hours * sum(cost.seconds[run.name] for run in left if run.stage == "compare" and run.seed == seed)
        if spent > limit:
            break
        num_seeds += 1
    text = f"limits.gpu_hours={limit:g} affords {num_seeds} of {len(seeds)} seeds"
    if num_seeds < 2:
        return f"{text}, which tell nothing of the noise"
    measures = measures_of(plan.sweep.data, scored=plan.sweep.evaluate.tasks != ())
    stated = resolution(design_of(plan.runs).with_seeds(num_seeds), measures, _noise(plan, paths))
    return f"{text} (scale.seeds={seeds[:num_seeds]}): {_sentence(stated) or 'their noise is not known'}"
