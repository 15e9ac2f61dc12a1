"""Bits stored against bits offered: where each family is full."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis import formatting
from analysis.errors import FitError
from analysis.figures import knowledge as figures
from analysis.findings.finding import Answer, Finding, PageTable
from analysis.sweep.knowledge import OFFERED, PUBLISHED, STORED, Saturation
from analysis.sweep.study import study
from analysis.tables.results import read_results


def answer(tables: Sequence[Path]) -> Answer:
    """The level at which each series saturates, or why none is given, and the means by bits offered."""
    done = study(read_results(tables[0]))
    found = done.knowledge
    if found is None:
        raise FitError(f"{tables[0]}: no series has {OFFERED} and {STORED} at several amounts offered")
    published = ", ".join(f"{bits:g} after {words}" for bits, words in PUBLISHED)
    full = [one for one in found.series if one.level is not None]
    others = [one for one in found.series if one.level is None]
    sentences = [f"{one.words()}." for one in full] or ["No family is seen to be full."]
    drawn = figures.saturation(done)
    return Answer(
        sentences=(*sentences, f"Published for dense models, in bits per parameter of their own: {published}."),
        tables=(
            PageTable(
                head=("model", "bits offered per parameter", "bits stored per parameter", "share", "seeds"),
                rows=tuple(row for one in found.series for row in _rows(one)),
            ),
        ),
        figures=() if drawn is None else (drawn,),
        failed=tuple(f"{one.words()}." for one in others),
    )


def _rows(one: Saturation) -> list[tuple[str, ...]]:
    return [
        (
            formatting.series(one.series),
            formatting.significant(point.offered),
            formatting.with_interval(point.stored, point.interval),
            f"{100 * point.stored / point.offered:.0f} %",
            str(point.num_seeds),
        )
        for point in one.points
    ]


FINDING = Finding(
    key="knowledge",
    title="How much a model holds",
    question="How many bits of facts does each family store per parameter of the dense model, as more are offered, and"
    " where is it full? Beside the published 2 bits per parameter after 1,000 exposures, and 1 after 100 (Allen-Zhu and"
    " Li 2024).",
    rule="The bits stored are the entropy of the facts' values less the model's nats, over all facts. For each family"
    " the means over seeds are fitted by K (1 - exp(-s offered/K)); the level K is given with its 95 % interval only"
    " where the means bend away from a straight line (F test at 5 %). A family that does not bend is reported as not"
    " full.",
    sweep="knowledge",
    answer=answer,
)
