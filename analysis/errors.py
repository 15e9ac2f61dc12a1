"""The mistakes a person can mend: they are printed without a traceback, and the exit code is 2."""

from __future__ import annotations


class AnalysisError(ValueError):
    """What is wrong, where, what was given and what is needed."""


class TableError(AnalysisError):
    """A results table that cannot be read or trusted; names the file, the row and the column."""


class FitError(AnalysisError):
    """The table is sound, but holds too little for the law or the comparison that was asked for."""
