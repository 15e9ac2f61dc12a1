"""The answer to the sweep's question in words, by a fixed rule.

`Study.focus` gives what the sweep compares: families, table sizes, ablations or model sizes. Families are compared in
the measure that the question is about (`Study.main`), by the rule of `report.statements`; every sentence of the opening
passes that rule, multipliers too: one whose interval holds 1, or that has none, is not called. Intervals are not
corrected for the number of comparisons.
"""

from __future__ import annotations

from dataclasses import replace

from analysis import formatting
from analysis.gains.measures import MAIN_COLUMNS
from analysis.gains.multipliers import Multiplier
from analysis.gains.scaling_curves import FLOPS, SECONDS
from analysis.report import ablation_headline
from analysis.report.ablation_headline import Answer
from analysis.report.statements import resolution, statement, verdict, would_take
from analysis.sweep.matching import TOLERANCE, held_equal
from analysis.sweep.study import Study

__all__ = ["Answer", "headline", "of_families", "verdict"]


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
    return replace(answer, details=(*answer.details, *more))


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
    """The comparison of the first pair of families; the other pairs, measures and multipliers are details."""
    subject, baseline = study.pairs[0]
    main = study.comparison(subject, baseline, study.main.column)
    if main is None:
        raise AssertionError("every pair is compared in every measure")
    others = [other for pair in study.pairs[1:] if (other := study.comparison(*pair, study.main.column))]
    details = [statement(other) for other in others]
    could = [said for one in (main, *others) for said in (resolution(study, one), would_take(study, one)) if said]
    for column in MAIN_COLUMNS:
        if column != study.main.column and not _says_the_same(study, column):
            details += [statement(one) for pair in study.pairs if (one := study.comparison(*pair, column))]
    details += [] if study.knowledge is None else [f"{one.words()}." for one in study.knowledge.series]
    details += _multipliers(study)
    return Answer(
        verdict=verdict(main),
        sentence=statement(main, start=_terms(study, subject, baseline)),
        resolution=tuple(could),
        details=tuple(details),
    )


def _says_the_same(study: Study, column: str) -> bool:
    """Bits in all beside bits per parameter would be one statement twice."""
    return column == "bits_stored" and study.main.column == "bits_stored_per_parameter"


def _terms(study: Study, subject: str, baseline: str) -> str:
    """The start of the opening: which quantities are held equal."""
    found = held_equal(study.results.compare, [(subject, baseline)])
    off = (
        ""
        if found.flops_mismatch <= TOLERANCE
        else f" (training FLOPs differ by up to {100 * found.flops_mismatch:.3g} %)"
    )
    return f"{found.words.capitalize()}{off}, "


def _multipliers(study: Study) -> list[str]:
    """For each axis, a sentence with the multipliers of the subject over its baselines that the rule calls."""
    said = []
    for axis, start, spent in (
        (FLOPS, "By the fitted laws of the loss,", "the compute of"),
        (SECONDS, "In training time on the machine used,", "the time of"),
    ):
        found = [one for pair in study.pairs if (one := study.multiplier(*pair, axis)) and _is_called(one)]
        worth = [
            f"{formatting.times(one.value, one.interval)} {spent} {formatting.series(one.baseline)}"
            for one in found
            if one.value is not None
        ]
        if worth:
            said.append(f"{start} {formatting.series(found[0].subject)} is worth {' and '.join(worth)}.")
    return said


def _is_called(one: Multiplier) -> bool:
    return one.value is not None and one.interval is not None and not one.interval.holds(1.0)
