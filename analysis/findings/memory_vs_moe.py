"""Whole repeats of the sweep memory_vs_moe, each with seeds of its own: what each answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from analysis import formatting
from analysis.errors import FitError
from analysis.findings.finding import Answer, Finding, PageTable
from analysis.findings.gather import resolution_path
from analysis.findings.words import amount, share
from analysis.gains.differences import Comparison, compare
from analysis.gains.measures import main_measure, measures, named_pairs
from analysis.inference.power import smallest_difference
from analysis.report.statements import verdict
from analysis.tables.planned_resolution import LARGEST, PlannedResolution, read_resolution, stated
from analysis.tables.results import read_results

WITHIN = 1.25
"""The runs reach a stated resolution where theirs is at most so many times as coarse."""
RESOLVED = ("better", "worse")
SPLIT = "split"
"""What the page says where the verdicts at the largest budget and in the mean differ."""


def answer(tables: Sequence[Path]) -> Answer:
    """Each repeat's comparisons in the measure that the sweep is about."""
    rows: list[tuple[str, ...]] = []
    verdicts: dict[str, list[str]] = {}
    reached = known = 0
    measure_words = ""
    for table in tables:
        runs = read_results(table).compare
        measure = main_measure(measures(runs))
        measure_words = f"{measure.words} ({measure.unit})"
        planned = read_resolution(resolution_path(table))
        seeds = ", ".join(str(seed) for seed in sorted(set(runs.seed.tolist())))
        for subject, baseline in named_pairs(runs):
            found = compare(runs, subject, baseline, measure)
            pair = f"{formatting.series(subject)} against {formatting.series(baseline)}"
            said = {"partly": SPLIT}.get(verdict(found), verdict(found))
            verdicts.setdefault(pair, []).append(said)
            could, saw, ratio = _resolutions(found, planned)
            known += ratio is not None
            reached += ratio is not None and ratio <= WITHIN
            values = (amount(found.largest, found), amount(found.overall, found))
            rows.append((table.stem, seeds, pair, *values, said, could, saw))
    if not verdicts:
        raise FitError("no table has two families to compare")
    sentences = [_said(pair, found) for pair, found in verdicts.items()]
    if known:
        sentences.append(f"The resolution that the plan stated was reached within 25 % in {share(reached, known)}.")
    head = (
        "repeat",
        "seeds",
        "pair",
        "largest budget",
        "mean over budgets",
        "verdict",
        "could see (plan)",
        "could see (runs)",
    )
    title = f"Differences in {measure_words}, one row a repeat and pair"
    failed = [
        f"{pair}: not resolved in {share(sum(one not in RESOLVED for one in found), len(found))} of the repeats."
        for pair, found in verdicts.items()
        if any(one not in RESOLVED for one in found)
    ]
    return Answer(
        sentences=tuple(sentences),
        tables=(PageTable(head=head, rows=tuple(rows), title=title),),
        failed=tuple(failed),
    )


def _said(pair: str, verdicts: Sequence[str]) -> str:
    counts = Counter(verdicts)
    parts = [f"{word} in {share(count, len(verdicts))}" for word, count in counts.most_common()]
    return f"{pair}, by the rule: {'; '.join(parts)}."


def _resolutions(found: Comparison, planned: Sequence[PlannedResolution]) -> tuple[str, str, float | None]:
    """The resolution at the largest budget by plan and runs, in words, and how many times as coarse the latter is."""
    " coarse."
    row = stated(planned, found.measure.column, found.subject, found.baseline, LARGEST)
    noise = found.largest.noise
    by_runs = None if noise is None else smallest_difference(noise)
    stated_one = None if row is None else row.smallest_difference
    words = ["" if one is None else formatting.significant(one, 2) for one in (stated_one, by_runs)]
    ratio = None if row is None or by_runs is None else by_runs / row.smallest_difference
    return words[0], words[1], ratio


FINDING = Finding(
    key="memory_vs_moe",
    title="Memory layers against experts, on a laptop",
    question="At equal training compute and equal total parameters, does a memory layer hold more knowledge than"
    " experts, and than a dense model? Does another set of seeds give the same answer?",
    rule="Each repeat is a whole run of `make sweep SWEEP=memory_vs_moe` with seeds that no other repeat has, read"
    " once. The measure is the bits stored per parameter of the budget's dense model (where a table lacks it: recall,"
    " then loss). A family is called better or worse only where the 95 % intervals of the difference at the largest"
    " budget and of its mean over the budgets both exclude zero on the same side. The aim: in at least nine of ten"
    " repeats the resolution that the plan stated is reached within 25 %, and Memory+ against dense is resolved,"
    " whatever its sign.",
    sweep="memory_vs_moe",
    answer=answer,
)
