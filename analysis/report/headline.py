"""The answer to the sweep's question in words, by a fixed rule.

`Study.focus` gives what the sweep compares: families, table sizes, ablations or model sizes. The rule for families:
the difference in validation loss, subject minus baseline, is taken at the largest budget and averaged over budgets. The
verdict is 'better' or 'worse' only if both 95 % intervals exclude zero on the same side; 'partly' if the two differ in
their verdicts; else 'not distinguishable', or 'no interval' without replicates. Intervals are not corrected for the
number of comparisons.
"""

from __future__ import annotations

from analysis import formatting
from analysis.gains.differences import Comparison, Difference
from analysis.gains.scaling_curves import FLOPS, SECONDS
from analysis.report import ablation_headline
from analysis.report.ablation_headline import Answer
from analysis.sweep.matching import TOLERANCE, held_equal
from analysis.sweep.study import Study

__all__ = ["RULE", "Answer", "headline", "of_families", "verdict"]

RULE = (
    "The difference in validation loss is taken at the largest budget and averaged over the budgets; a family is called"
    " better or worse only where both 95 % intervals exclude zero on the same side."
)


def headline(study: Study) -> Answer:
    """The opening of the report: the answer for `Study.focus`; further results of the table are its details."""
    about = {
        "families": of_families,
        "table_sizes": ablation_headline.of_table_sizes,
        "ablations": ablation_headline.of_ablations,
        "model_sizes": ablation_headline.of_sizes,
    }
    if study.focus not in about:
        return _nothing(study)
    answer = about.pop(study.focus)(study)
    held = {
        "families": study.pairs,
        "table_sizes": study.table_sizes,
        "ablations": study.ablations,
        "model_sizes": study.isoflops,
    }
    more = [of(study).sentence for key, of in about.items() if held[key] and key != "model_sizes"]
    if study.focus != "model_sizes" and study.isoflops is not None:
        more += ablation_headline.lowest(study.isoflops)
    return Answer(verdict=answer.verdict, sentence=answer.sentence, details=(*answer.details, *more))


def _nothing(study: Study) -> Answer:
    names = ", ".join(formatting.series(label) for label in study.results.compare.labels)
    return Answer(
        verdict="no comparison",
        sentence=f"No two series can be compared: the table holds done runs of {names} only at separate budgets."
        if len(study.results.compare.labels) > 1
        else f"Nothing to compare: the table holds done runs of {names} only.",
        details=(),
    )


def of_families(study: Study) -> Answer:
    """The comparison of the first pair of families; the other pairs, recall and multipliers are details."""
    subject, baseline = study.pairs[0]
    main = study.comparison(subject, baseline, "loss_nats")
    if main is None:
        raise AssertionError("every pair is compared in loss")
    details = [_loss(other) for pair in study.pairs[1:] if (other := study.comparison(*pair, "loss_nats"))]
    details += [sentence for pair in study.pairs for sentence in _recall(study, *pair)]
    details += _multipliers(study)
    return Answer(
        verdict=verdict(main), sentence=_loss(main, start=_terms(study, subject, baseline)), details=tuple(details)
    )


def verdict(comparison: Comparison) -> str:
    """The verdict of the rule on a comparison."""
    lower = comparison.measure.lower_is_better
    both = [one.verdict(lower) for one in (comparison.largest, comparison.overall)]
    if both[0] == both[1]:
        return both[0]
    return "partly"


def _loss(comparison: Comparison, *, start: str = "") -> str:
    """A sentence on the difference in loss."""
    subject, baseline = formatting.series(comparison.subject), formatting.series(comparison.baseline)
    at, mean = _side(comparison.largest), _side(comparison.overall)
    budgets = len(comparison.at_budgets)
    where = f"at {_flops(comparison.largest)}"
    if budgets > 1:
        where = f"at the largest budget ({_flops(comparison.largest)})"
    spread = f" and {mean} averaged over {budgets} budgets" if budgets > 1 else ""
    result = verdict(comparison)
    if result in ("better", "worse"):
        word = "lower" if result == "better" else "higher"
        # 'lower' and 'higher' carry the sign, so the difference is printed as a positive distance
        sign = -1 if result == "better" else 1
        at, mean = _side(comparison.largest, sign), _side(comparison.overall, sign)
        spread = f" and by {mean} averaged over {budgets} budgets" if budgets > 1 else ""
        return f"{start}{subject} reaches a {word} loss than {baseline}: by {at} nats per token {where}{spread}."
    if result == "no interval":
        return (
            f"{start}{formatting.possessive(subject)} loss differs from {formatting.possessive(baseline)} by {at} nats"
            f" per token {where}{spread}, but no interval can be given: {comparison.no_interval_because}."
        )
    if result == "not distinguishable":
        return (
            f"{start}{subject} and {baseline} are not distinguishable in loss: the difference is {at} nats per token"
            f" {where}{spread}, and zero lies inside the 95 % interval{'s' if budgets > 1 else ''}."
        )
    lower = comparison.measure.lower_is_better
    first, second = comparison.largest.verdict(lower), comparison.overall.verdict(lower)
    return (
        f"{start}the answer is split: against {baseline}, {formatting.possessive(subject)} loss is {first} at the"
        f" largest budget ({at} nats per token at {_flops(comparison.largest)}) and {second} averaged over"
        f" {budgets} budgets ({mean})."
    )


def _terms(study: Study, subject: str, baseline: str) -> str:
    """The start of the opening: which quantities are held equal."""
    found = held_equal(study.results.compare, [(subject, baseline)])
    off = (
        ""
        if found.flops_mismatch <= TOLERANCE
        else f" (training FLOPs differ by up to {100 * found.flops_mismatch:.3g} %)"
    )
    return f"{found.words.capitalize()}{off}, "


def _recall(study: Study, subject: str, baseline: str) -> list[str]:
    if study.recall is None:
        return []
    comparison = study.comparison(subject, baseline, study.recall.column)
    if comparison is None:
        return []
    ours, theirs = formatting.series(subject), formatting.series(baseline)
    whose = f"{formatting.possessive(ours)} recall differs from {formatting.possessive(theirs)}"
    start = {
        "better": f"{ours} recalls more facts than {theirs}",
        "worse": f"{ours} recalls fewer facts than {theirs}",
        "not distinguishable": f"{ours} and {theirs} are not distinguishable in recall",
        "no interval": f"{whose}, without an interval",
        "partly": f"On recall the answer is split between {ours} and {theirs}",
    }[verdict(comparison)]
    spread = ""
    if len(comparison.at_budgets) > 1:
        spread = f" and {_side(comparison.overall, most=1)} averaged over budgets"
    return [f"{start}: {_side(comparison.largest, most=1)} points at {_flops(comparison.largest)}{spread}."]


def _multipliers(study: Study) -> list[str]:
    """For each axis, a sentence with the multipliers of the subject over its baselines."""
    said = []
    for axis, start, spent in (
        (FLOPS, "By the fitted laws,", "the compute of"),
        (SECONDS, "In training time on the machine used,", "the time of"),
    ):
        found = [one for pair in study.pairs if (one := study.multiplier(*pair, axis)) and one.value is not None]
        worth = [
            f"{formatting.times(one.value, one.interval)} {spent} {formatting.series(one.baseline)}"
            for one in found
            if one.value is not None
        ]
        if worth:
            said.append(f"{start} {formatting.series(found[0].subject)} is worth {' and '.join(worth)}.")
    return said


def _side(difference: Difference, distance_sign: int = 0, *, most: int = 3) -> str:
    """The difference with its sign; with a `distance_sign` of 1 or -1, times that and printed without a sign."""
    if not distance_sign:
        return formatting.with_interval(difference.value, difference.interval, sign=True, most=most)
    interval = difference.interval.times(distance_sign) if difference.interval else None
    return formatting.with_interval(difference.value * distance_sign, interval, most=most)


def _flops(difference: Difference) -> str:
    return f"{formatting.power(difference.budget_flops or 0.0)} FLOPs"
