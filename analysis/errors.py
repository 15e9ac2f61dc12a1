"""Errors of the input, which a person can correct: printed without a traceback, with exit code 2."""

from __future__ import annotations


class AnalysisError(ValueError):
    """An error in what was given; its text says what is wrong, where, what was given and what is needed."""


class TableError(AnalysisError):
    """A table that cannot be read or used; names the file, the row and the column."""


class FitError(AnalysisError):
    """A valid table that holds too little for the law or the comparison."""
