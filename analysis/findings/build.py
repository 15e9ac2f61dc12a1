"""Make the page of findings from the tables in a folder, or say where it differs from the one that is there.

Everything is computed before anything is written; figures of findings that have none any more are removed.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import AnalysisError, TableError
from analysis.figures import style
from analysis.findings import page
from analysis.findings.finding import Answer
from analysis.findings.registry import FINDINGS
from analysis.tables import atomic_write

PAGE, TABLES = "findings.md", "findings"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The page as the tables give it."""

    text: str
    figures: dict[str, bytes]
    """PNG by its path from the page's folder."""
    made: tuple[str, ...]
    """Keys of the findings that have an answer."""
    absent: tuple[str, ...]
    """Keys of those whose tables are not there."""


def findings(docs: Path, only: tuple[str, ...] = ()) -> Findings:
    """Compute the page from the tables in `docs`/findings.

    Args:
        docs: The folder of the page.
        only: Keys of the findings to compute, the others counting as not run; empty: all.
    """
    sections, made, absent = list[str](), list[str](), list[str]()
    figures: dict[str, bytes] = {}
    for finding in FINDINGS:
        tables = finding.tables(docs / TABLES) if not only or finding.key in only else ()
        answer: Answer | None = None
        error: AnalysisError | None = None
        if tables:
            try:
                with style.styled():
                    answer = finding.answer(tables)
                    figures |= {page.figure_path(finding, one.stem): style.png(one.figure) for one in answer.figures}
            except AnalysisError as found:
                error = found
        (made if answer is not None else absent).append(finding.key)
        sections.append(page.section(finding, answer, tables, error))
    return Findings(text=page.page(sections), figures=figures, made=tuple(made), absent=tuple(absent))


def write(found: Findings, docs: Path) -> list[Path]:
    """Write the page and its figures into `docs`, and remove figures that the page no longer shows."""
    folder = docs / TABLES
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        if f"{TABLES}/{old.name}" not in found.figures:
            old.unlink()
    written = [atomic_write.write(docs / name, content) for name, content in found.figures.items()]
    return [*written, atomic_write.write(docs / PAGE, found.text.encode())]


def check(found: Findings, docs: Path) -> None:
    """Raises TableError with the first differing lines where the page in `docs` is not what its tables give."""
    path = docs / PAGE
    there = path.read_text(encoding="utf-8") if path.is_file() else ""
    if there == found.text:
        return
    lines = difflib.unified_diff(
        there.splitlines(), found.text.splitlines(), "the page", "its tables", lineterm="", n=0
    )
    shown = "\n".join(list(lines)[:12])
    raise TableError(f"{path} is not what the tables in {docs / TABLES} give; make it again (make findings):\n{shown}")
