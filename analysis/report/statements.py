"""What the report says of one comparison in words, by one rule for every measure.

The difference, subject minus baseline, is taken at the largest budget and averaged over the budgets. It is called only
where both intervals exclude zero on the same side; 'partly' where the two verdicts differ; else 'not distinguishable',
or 'no interval' without replicates. Beside it stands what could be seen: the resolution that the plan stated, and the
one that the runs reached. A comparison that is not resolved says how many seeds would be enough.
"""

from __future__ import annotations

from analysis import formatting
from analysis.gains.differences import Comparison, Difference
from analysis.gains.measures import Measure
from analysis.inference.power import MOST_SEEDS, seeds_for, smallest_difference
from analysis.sweep.study import Study
from analysis.tables.planned_resolution import LARGEST, MEAN, PlannedResolution, stated


def rule(measure: Measure, level: float) -> str:
    """The verdict rule, in a sentence."""
    return (
        f"The difference in {measure.words} is taken at the largest budget and averaged over the budgets; a family is"
        f" called better or worse only where both {formatting.level(level)} intervals exclude zero on the same side."
    )


def verdict(comparison: Comparison) -> str:
    """The verdict of the rule on a comparison."""
    lower = comparison.measure.lower_is_better
    both = [one.verdict(lower) for one in (comparison.largest, comparison.overall)]
    return both[0] if both[0] == both[1] else "partly"


def statement(comparison: Comparison, *, start: str = "") -> str:
    """A sentence on the difference in the comparison's measure."""
    measure, result = comparison.measure, verdict(comparison)
    subject, baseline = formatting.series(comparison.subject), formatting.series(comparison.baseline)
    budgets = len(comparison.at_budgets)
    # The phrase carries the sign of a difference that is called, so that it is printed as a distance.
    called = result in ("better", "worse")
    sign = (1 if comparison.overall.value > 0 else -1) if called else 0
    at, mean = (amount(one, measure, sign) for one in (comparison.largest, comparison.overall))
    where = f"at {_flops(comparison.largest)}"
    if budgets > 1:
        where = f"at the largest budget ({_flops(comparison.largest)})"
    spread = f" and {'by ' * called}{mean} averaged over {budgets} budgets" if budgets > 1 else ""
    if called:
        more = measure.more or f"has a higher {measure.words} than"
        fewer = measure.fewer or f"has a lower {measure.words} than"
        return f"{start}{subject} {more if sign > 0 else fewer} {baseline}: by {at} {measure.unit} {where}{spread}."
    if result == "no interval":
        return (
            f"{start}{formatting.possessive(subject)} {measure.words} differs from"
            f" {formatting.possessive(baseline)} by {at} {measure.unit} {where}{spread}, but no interval can be given:"
            f" {comparison.no_interval_because}."
        )
    if result == "not distinguishable":
        assert comparison.largest.noise is not None
        level = formatting.level(comparison.largest.noise.level)
        return (
            f"{start}{subject} and {baseline} are not distinguishable in {measure.words}: the difference is {at}"
            f" {measure.unit} {where}{spread}, and zero lies inside the {level} interval{'s' if budgets > 1 else ''}."
        )
    first, second = (one.verdict(measure.lower_is_better) for one in (comparison.largest, comparison.overall))
    return (
        f"{start}{'the' if start else 'The'} answer is split:"
        f" against {baseline}, {formatting.possessive(subject)} {measure.words} is {first}"
        f" at the largest budget ({at} {measure.unit} at {_flops(comparison.largest)}) and {second} averaged over"
        f" {budgets} budgets ({mean})."
    )


def amount(difference: Difference, measure: Measure, distance_sign: int = 0) -> str:
    """The difference with its sign and interval; with a `distance_sign` of 1 or -1, times that and without a sign."""
    if not distance_sign:
        return formatting.with_interval(difference.value, difference.interval, sign=True, most=measure.decimals)
    interval = difference.interval.times(distance_sign) if difference.interval else None
    return formatting.with_interval(difference.value * distance_sign, interval, most=measure.decimals)


def resolution(study: Study, comparison: Comparison) -> str:
    """What could be seen at the largest budget, and what was; '' where the noise of a run is unknown."""
    difference, measure = comparison.largest, comparison.measure
    planned = _planned(study, comparison, LARGEST)
    if difference.noise is None:
        return ""
    reached = f"{formatting.significant(smallest_difference(difference.noise), 2)} {measure.unit}"
    where = "at the largest budget" if len(comparison.at_budgets) > 1 else f"at {_flops(difference)}"
    saw = amount(difference, measure)
    if planned is None:
        return f"{_pair(comparison)} {where}: these runs can see {reached} with 80 % power; they saw {saw}."
    could = f"{formatting.significant(planned.smallest_difference, 2)} {planned.unit}"
    return (
        f"{_pair(comparison)} {where}: could see {could} by the plan ({planned.source} noise) and {reached} by the"
        f" runs, with 80 % power; saw {saw}."
    )


def would_take(study: Study, comparison: Comparison) -> str:
    """How many seeds would resolve a comparison; '' where it is resolved, or its noise unknown."""
    lower, measure = comparison.measure.lower_is_better, comparison.measure
    if verdict(comparison) in ("better", "worse") or comparison.num_seeds < 2:
        return ""
    at, one = LARGEST, comparison.largest
    if one.verdict(lower) != "not distinguishable":
        at, one = MEAN, comparison.overall
    if one.noise is None:
        return ""
    seen = abs(one.value)
    wanted = [(f"the {formatting.significant(seen, 2)} {measure.unit} that were seen", seen)] if seen else []
    planned = _planned(study, comparison, at)
    if planned is not None:
        shown = formatting.significant(planned.smallest_difference, 2)
        wanted.append((f"the {shown} {planned.unit} that the plan stated", planned.smallest_difference))
    parts = [f"{_seeds(seeds_for(one.noise, comparison.num_seeds, size))} for {words}" for words, size in wanted]
    if not parts:
        return ""
    where = "at the largest budget" if at == LARGEST else "on average"
    return (
        f"To resolve {_pair(comparison)} {where} with 80 % power would take {' and '.join(parts)}, by the noise of"
        f" these runs ({formatting.counted(comparison.num_seeds, 'seed')} each)."
    )


def _seeds(number: int | None) -> str:
    return f"more than {MOST_SEEDS} seeds" if number is None else formatting.counted(number, "seed")


def _planned(study: Study, comparison: Comparison, at: str) -> PlannedResolution | None:
    return stated(study.resolution, comparison.measure.column, comparison.subject, comparison.baseline, at)


def _pair(comparison: Comparison) -> str:
    ours, theirs = formatting.series(comparison.subject), formatting.series(comparison.baseline)
    return f"{ours} against {theirs} in {comparison.measure.words}"


def _flops(difference: Difference) -> str:
    return f"{formatting.power(difference.budget_flops or 0.0)} FLOPs"


def readings(study: Study) -> str:
    """What the level of the intervals is, where the sweep may be read several times; '' where it is read once."""
    if study.looks is None:
        return ""
    counts = study.looks.num_seeds
    number = f"reading {len(counts)} of this sweep ({', '.join(map(str, counts))} seeds)"
    first = "This is the first reading of this sweep" if len(counts) == 1 else f"This is {number}"
    return (
        f"{first}: intervals of differences are at {formatting.level(study.level)}, so that all readings, also those"
        " after further seeds, together call a difference by chance in at most 5 % of sweeps (alpha spending, Lan and"
        " DeMets 1983)."
    )
