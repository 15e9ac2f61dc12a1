"""Errors of the input, which a person can correct: printed without a traceback, with exit code 2."""

from __future__ import annotations


class AnalysisError(ValueError):
    """An error in the input; its text states what is wrong, where, what was given and what is needed."""


class TableError(AnalysisError):
    """A table that cannot be read or used; names the file, the row and the column."""


class FitError(AnalysisError):
    """A valid table that holds too little for the law or the comparison."""
