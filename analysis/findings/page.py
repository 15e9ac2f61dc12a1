"""docs/findings.md: the sections of all findings as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.errors import AnalysisError
from analysis.findings.finding import NOT_RUN, Answer, Finding, PageTable

HEAD = """# Findings

What the shipped sweeps found, and what they did not find. `make findings` makes this page: every number, figure and
sentence of it comes from the results tables in `docs/findings/`, one row a run. Each rule was committed before the runs
that it judges, and results that go against a hope stay. Intervals are 95 % unless a sentence says otherwise.
"""


def section(finding: Finding, answer: Answer | None, tables: Sequence[Path], error: AnalysisError | None) -> str:
    """The section of one finding; `error` is why its tables give no answer."""
    parts = [f"## {finding.title}", f"**Question.** {finding.question}", f"**Rule.** {finding.rule}"]
    if error is not None:
        parts.append(f"**Answer.** None: the tables cannot carry it. {error}")
    elif answer is None:
        source = finding.table_from or f"`make sweep SWEEP={finding.sweep}`"
        parts.append(f"**Answer.** {NOT_RUN} ({source}, then `make findings`.)")
    else:
        first, *more = answer.sentences
        parts += [f"**Answer.** {first}", *more]
        parts += [f"![{one.title}]({figure_path(finding, one.stem)})\n\n*{one.caption}*" for one in answer.figures]
        parts += [_table(one) for one in answer.tables]
        if answer.failed:
            parts.append(
                "**What did not hold, or could not be told.**\n\n" + "\n".join(f"- {one}" for one in answer.failed)
            )
    if tables:
        links = ", ".join(f"[{path.name}](findings/{path.name})" for path in tables)
        parts.append(f"Tables: {links}.")
    return "\n\n".join(parts) + "\n"


def page(sections: Sequence[str]) -> str:
    """The whole page."""
    return "\n".join([HEAD, *sections])


def figure_path(finding: Finding, stem: str) -> str:
    """Where a figure of a finding lies, from the page's folder."""
    return f"findings/{finding.key}-{stem}.png"


def _table(table: PageTable) -> str:
    title = [f"*{table.title}*", ""] if table.title else []
    rule = "|" + "---|" * len(table.head)
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table.rows]
    return "\n".join([*title, "| " + " | ".join(table.head) + " |", rule, *rows])
