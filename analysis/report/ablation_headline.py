"""The answer in words for sweeps that vary a family: table sizes, ablations, or model sizes at equal FLOPs.

The loss is reported to fall or rise only if the 95 % interval of the change excludes zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis import formatting
from analysis.gains.differences import NO_NOISE, Difference
from analysis.gains.measures import Measure
from analysis.inference.replicate_noise import percentile_interval
from analysis.sweep.ablations import Ablations
from analysis.sweep.model_size import IsoFlop, IsoFlops
from analysis.sweep.study import Study
from analysis.sweep.table_size import TableSizeCurve


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The opening of the report."""

    verdict: str
    """'better', 'worse', 'partly', 'not distinguishable', 'no interval' or 'no comparison'; for model sizes 'inside' or
    'edge', by the place of the lowest loss."""
    sentence: str
    details: tuple[str, ...]
    """Sentences that follow."""
    resolution: tuple[str, ...] = ()
    """What could be seen beside what was, and what a comparison that is not resolved would take."""


def of_table_sizes(study: Study) -> Answer:
    """The change in loss from the smallest to the largest table; the verdict is that of the largest budget."""
    found = study.table_sizes
    assert found is not None
    curves = sorted(found.curves, key=lambda curve: curve.budget.flops, reverse=True)
    first = curves[0]
    loss = study.main if study.main in found.measures else found.measures[0]
    details = [_slot_change(curve, loss) + "." for curve in curves[1:]]
    details += [_slot_change(first, measure) + "." for measure in found.measures if measure != loss]
    details += [said for curve in curves for said in [_slot_law(study, curve)] if said]
    if found.laws is None:
        details.append(f"No law against slots: {found.no_law}.")
    sentence = f"On a fixed base, {_slot_change(first, loss)}"
    if first.change[loss.column].interval is None:
        sentence += f", but no interval can be given: {NO_NOISE}"
    return Answer(verdict=_verdict(first, loss), sentence=f"{sentence}.", details=tuple(details))


def _verdict(curve: TableSizeCurve, measure: Measure) -> str:
    change = curve.change[measure.column]
    if change.interval is None:
        return "no interval"
    if not change.interval.excludes_zero:
        return "not distinguishable"
    return "better" if (change.value < 0) == measure.lower_is_better else "worse"


def _slot_change(curve: TableSizeCurve, measure: Measure) -> str:
    """A sentence, without its full stop, on the change from the smallest to the largest table."""
    change, verdict = curve.change[measure.column], _verdict(curve, measure)
    first, last = curve.points[0], curve.points[-1]
    what = f"{formatting.possessive(formatting.series(curve.stem))} {measure.words}"
    unit = "points" if measure.factor == 100.0 else measure.unit
    where = f"from {formatting.slots(first.num_slots)} to {formatting.slots(last.num_slots)} slots"
    where += f" ({formatting.power(curve.budget.flops)} FLOPs)"
    if verdict in ("better", "worse"):
        falls = change.value < 0
        interval = change.interval.times(-1 if falls else 1) if change.interval else None
        shown = formatting.with_interval(abs(change.value), interval, most=measure.decimals)
        return f"{what} {'falls' if falls else 'rises'} by {shown} {unit} {where}"
    shown = formatting.with_interval(change.value, change.interval, sign=True, most=measure.decimals)
    if verdict == "no interval":
        return f"{what} changes by {shown} {unit} {where}"
    return f"a change of {what} cannot be told from noise: {shown} {unit} {where}"


def _slot_law(study: Study, curve: TableSizeCurve) -> str:
    assert study.table_sizes is not None
    law = study.table_sizes.law(curve)
    if law is None:
        return ""
    alpha = float(law.fit.slope(law.fit.best)[0])
    interval = None if law.replicates is None else percentile_interval(law.fit.slope(law.replicates))
    what = "its loss above an offset" if "E" in law.fit.law.formula else "its loss"
    alpha_letter = "\N{GREEK SMALL LETTER ALPHA}"
    return (
        f"At {formatting.power(curve.budget.flops)} FLOPs, {what} falls as the power {formatting.MINUS}{alpha_letter}"
        f" of the slots, {alpha_letter} = {formatting.with_interval(alpha, interval, most=4)}."
    )


def of_ablations(study: Study) -> Answer:
    """How many ablations differ from their reference, for the family with the most ablations."""
    group = max(study.ablations, key=lambda one: len(one.ablations))
    best, worst = group.ablations[0], group.ablations[-1]
    ends = [best] if best is worst else [best, worst]
    details = [
        f"{formatting.series(one.series)}: {_difference(one.loss.overall)} nats per token"
        f" against {formatting.series(group.reference)}."
        for one in ends
    ]
    return Answer(verdict=_ablations_verdict(group), sentence=_ablations(group), details=tuple(details))


def _ablations(group: Ablations) -> str:
    counts, total = group.counts(), len(group.ablations)
    family, reference = formatting.family(group.family), formatting.series(group.reference)
    start = f"Of {total} ablations of {family}" if total > 1 else f"The one ablation of {family}"
    if counts["no interval"]:
        best = group.ablations[0]
        return (
            f"{start}{',' if total > 1 else ' is'} {formatting.series(best.series)}"
            f"{' has the lowest loss' if total > 1 else ''} ({_difference(best.loss.overall)} nats per token against"
            f" {reference}), but no interval can be given: {best.loss.no_interval_because}."
        )
    better, worse, same = (counts[verdict] for verdict in ("better", "worse", "not distinguishable"))
    said = [f"{better or 'none'} reach{'es' if better < 2 else ''} a lower loss than {reference}"]
    said += [f"{worse} reach{'es' if worse == 1 else ''} a higher one"] if worse else []
    said += [f"{same} {'is' if same == 1 else 'are'} not distinguishable from it"] if same else []
    if total == 1:
        verdict = {"better": "a lower loss than", "worse": "a higher loss than"}.get(group.ablations[0].verdict)
        name = formatting.series(group.ablations[0].series)
        return f"{name} reaches {verdict} {reference}." if verdict else (
            f"{name} and {reference} are not distinguishable in loss."
        )  # fmt: skip
    listed = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    return f"{start}, {listed}."


def _ablations_verdict(group: Ablations) -> str:
    counts = group.counts()
    if counts["no interval"]:
        return "no interval"
    return "better" if counts["better"] else "worse" if counts["worse"] else "not distinguishable"


def _difference(difference: Difference) -> str:
    return formatting.with_interval(difference.value, difference.interval, sign=True)


def of_sizes(study: Study) -> Answer:
    """The size with the lowest loss at the largest number of FLOPs."""
    found = study.isoflops
    assert found is not None
    curves = sorted(found.curves, key=lambda curve: curve.flops, reverse=True)
    first, *others = curves
    details = tuple(f"{_lowest(curve, found.words)}." for curve in others) + tuple(laws_of_size(found))
    verdict = "edge" if first.edge else "inside"
    return Answer(verdict=verdict, sentence=f"{_lowest(first, found.words)}.", details=details)


def laws_of_size(found: IsoFlops) -> list[str]:
    """A sentence for each series with the exponents of its compute-optimal frontier."""
    said = []
    for series, frontier in found.frontiers.items():
        values = []
        for name, line in (("a", frontier.params), ("b", frontier.tokens)):
            ends = line.exponent_ci95
            interval = "" if ends is None else f" [{ends[0]:.3f}, {ends[1]:.3f}]"
            values.append(f"{name} = {line.exponent:.3f}{interval}")
        name = formatting.series(series)
        said.append(f"The optimum of {name} grows as N* ~ C^a, D* ~ C^b with {' and '.join(values)}.")
    said += [f"{formatting.series(series)} has no frontier: {why}." for series, why in found.no_frontier.items()]
    return said


def lowest(found: IsoFlops) -> list[str]:
    """A sentence for each series on the size with the lowest loss at the largest number of FLOPs."""
    largest = max(curve.flops for curve in found.curves)
    said = [f"{_lowest(curve, found.words)}." for curve in found.curves if curve.flops == largest]
    return said + laws_of_size(found)


def _lowest(curve: IsoFlop, words: str) -> str:
    best = curve.best
    said = (
        f"At {formatting.power(curve.flops)} FLOPs the lowest loss of {formatting.series(curve.series)} is that of"
        f" {formatting.count(best.params)} {words}"
    )
    if curve.edge:
        said += f", the {curve.edge} size tried: the best may lie outside"
    elif curve.optimum is not None and not curve.optimum.reason:
        said += f", inside the sizes tried; the optimum between sizes is {optimum_words(curve)}"
    else:
        said += ", inside the sizes tried"
    if best.interval is None:
        return said + "; with one seed, noise cannot be told from a difference"
    if curve.near:
        sizes = ", ".join(formatting.count(curve.sizes[index].params) for index in curve.near)
        said += f"; {sizes} cannot be told from it"
    return said


def optimum_words(curve: IsoFlop) -> str:
    """The optimal size with its interval, such as '231M [210M, 250M]', or why there is none."""
    if curve.optimum is None:
        return "not known"
    if curve.optimum.reason:
        return f"none: {curve.optimum.reason}"
    ends = curve.optimum.params_ci95
    interval = "" if ends is None else f" [{', '.join(formatting.count(end) for end in ends)}]"
    return formatting.count(curve.optimum.params) + interval
