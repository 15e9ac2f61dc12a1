"""What a finding is: a question, the rule by which it is answered, the tables it rests on, and what they say.

Decides that the rule is text that stands in the page whether or not the tables are there, so that it is committed
before the runs that it judges; that a finding whose tables are absent says "not run yet"; and that every sentence comes
from the tables. Refuses nothing itself: a table that cannot carry an answer raises the error of the room that reads it,
and the page shows it in the place of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.figures.figure import Figure

NOT_RUN = "Not run yet."


@dataclass(frozen=True, kw_only=True)
class PageTable:
    """A table of the page."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the tables of a finding say."""

    sentences: tuple[str, ...]
    """The first is the answer."""
    tables: tuple[PageTable, ...] = ()
    figures: tuple[Figure, ...] = ()
    failed: tuple[str, ...] = ()
    """What did not hold, could not be resolved or could not be made."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One section of the page."""

    key: str
    """Names its figures, and its section."""
    title: str
    question: str
    rule: str
    """How the tables are judged; stands before the runs."""
    sweep: str
    """Name of the sweep, and of its tables: SWEEP.csv, or SWEEP-01.csv, SWEEP-02.csv, ... for repeats."""
    answer: Callable[[Sequence[Path]], Answer]
    """Of the tables, at least one."""
    table_from: str = ""
    """Where its table comes from, if not from the sweep of that name."""

    def tables(self, folder: Path) -> tuple[Path, ...]:
        """The tables that are there, by name."""
        wanted = re.compile(rf"{re.escape(self.sweep)}(-\d+)?\.csv")
        return tuple(sorted(path for path in folder.glob(f"{self.sweep}*.csv") if wanted.fullmatch(path.name)))
