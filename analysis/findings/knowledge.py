"""Bits stored against bits offered: where each family is full."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis import formatting
from analysis.errors import FitError
from analysis.findings.finding import Answer, Finding, PageTable
from analysis.gains.measures import measures
from analysis.gains.run_noise import noise_of
from analysis.tables.results import read_results
from analysis.tables.runs import Runs

OFFERED, STORED = "bits_offered_per_parameter", "bits_stored_per_parameter"


def answer(tables: Sequence[Path]) -> Answer:
    """The means by bits offered of each series, and the most that each was seen to store."""
    runs = read_results(tables[0]).compare
    for column in (OFFERED, STORED):
        if not runs.has(column):
            raise FitError(f"{tables[0]}: not every run has {column}, which the sweep is about")
    rows, best = _rows(runs)
    sentences = [
        f"{formatting.series(label)} stores {shown} bits per dense parameter at most, where {offered} are offered"
        f" ({'still rising at the most that was offered' if last else 'and no more where more are offered'})."
        for label, shown, offered, last in best
    ]
    return Answer(
        sentences=tuple(sentences),
        tables=(
            PageTable(head=("model", "bits offered per parameter", "bits stored per parameter", "share"), rows=rows),
        ),
    )


def _rows(runs: Runs) -> tuple[tuple[tuple[str, ...], ...], list[tuple[str, str, str, bool]]]:
    """A row a series and budget, and of each series the largest mean, where it was, and whether that was the end."""
    noise, _ = noise_of(runs, next(one for one in measures(runs) if one.column == STORED))
    rows: list[tuple[str, ...]] = []
    best = []
    for label in runs.labels:
        found = []
        for budget in runs.budgets(label):
            mask = runs.of(label, budget)
            weight_N = np.asarray(mask / mask.sum())
            offered, stored = (float(weight_N @ runs.number(column)) for column in (OFFERED, STORED))
            interval = None if noise is None else noise.contrast(weight_N).interval(stored, 1.0)
            found.append((offered, stored, formatting.with_interval(stored, interval)))
        found.sort()
        rows += [
            (formatting.series(label), formatting.significant(offered), shown, f"{100 * stored / offered:.0f} %")
            for offered, stored, shown in found
        ]
        offered, _, shown = max(found, key=lambda one: one[1])
        best.append((label, shown, formatting.significant(offered), offered == found[-1][0]))
    return tuple(rows), best


FINDING = Finding(
    key="knowledge",
    title="How much a model holds",
    question="How many bits of facts does each family store per parameter of the dense model, as more are offered, and"
    " where is it full? Beside the published 2 bits per parameter after 1,000 exposures, and 1 after 100 (Allen-Zhu and"
    " Li 2024).",
    rule="The bits stored are the entropy of the facts' values less the model's nats, over all facts. The mean over"
    " seeds is shown with its 95 % interval at every number of bits offered. A family is said to be full only where"
    " its mean no longer rises while more is offered.",
    sweep="knowledge",
    answer=answer,
)
