"""What every answer of analysis/ can do: give itself as a DataFrame, as text for a terminal, as HTML in a notebook.

The classes of answers (a fit, gains, isoFLOP minima, ...) derive from `Result` and write `to_frame` and `summary`;
notebooks then show them by themselves.
"""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


class Result(ABC):
    """An answer: its numbers as a DataFrame, its words as text."""

    @abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """The numbers with all their digits, one row each coefficient, scale or run; ends of intervals in columns."""

    @abstractmethod
    def summary(self) -> str:
        """The answer for a terminal: rounded numbers with intervals and units, then warnings, a line each."""

    def __str__(self) -> str:
        """`summary`, so that `print` shows the answer."""
        return self.summary()

    def _repr_html_(self) -> str:
        """The summary and the table, as Jupyter shows them."""
        return f"<pre>{html.escape(self.summary())}</pre>{self.to_frame().to_html(max_rows=30, border=0)}"
