"""The report's section on the knowledge that each series stores of what it is offered."""

from __future__ import annotations

from analysis import formatting
from analysis.report.html import Cell, paragraph, section, table, words
from analysis.report.html_tables import series
from analysis.sweep.study import Study


def knowledge_section(study: Study) -> str:
    """Bits stored, and where each series saturates; '' where the table does not offer several amounts."""
    if study.knowledge is None:
        return ""
    return section(
        "Knowledge stored against knowledge offered",
        _table(study),
        paragraph(
            "Bits per non-embedding parameter of the budget's dense model, also for models with more parameters."
            " A series saturates at K of the law K (1 - exp(-s x / K)), fitted to the means; refused where these do not"
            " bend away from a straight line. Dense models were published to store 2 bits per parameter after 1,000"
            " exposures and 1 after 100 (Allen-Zhu and Li 2024), of their own parameters.",
            "note",
        ),
    )


def _table(study: Study) -> str:
    """Bits stored at each amount offered, and where each series saturates."""
    assert study.knowledge is not None
    offered = sorted({point.offered for one in study.knowledge.series for point in one.points})
    rows: list[list[str | Cell]] = []
    for one in study.knowledge.series:
        at = {point.offered: formatting.with_interval(point.stored, point.interval, most=3) for point in one.points}
        level = (
            words(one.refusal, wrap=True)
            if one.level is None
            else formatting.with_interval(one.level, one.interval, most=2)
        )
        rows.append([series(study, one.series), *(at.get(x, "") for x in offered), level])
    head = ("stored of, bits per parameter", *(formatting.significant(x, 2) for x in offered), "saturates at")
    return table(head, rows)
