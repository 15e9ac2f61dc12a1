"""Errors of the input, which a person can correct: printed without a traceback, with exit code 2."""

from __future__ import annotations

import re
import shlex
import traceback
from collections.abc import Sequence

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class AnalysisError(ValueError):
    """An error in the input; its text states what is wrong, where, what was given and what is needed."""

    def __init__(self, message: str = "") -> None:
        """`message` may hold what a file or a person gave, whatever its characters."""
        super().__init__(printable(message))


class TableError(AnalysisError):
    """A table that cannot be read or used; names the file, the row and the column."""


class FitError(AnalysisError):
    """A valid table that holds too little for the law or the comparison."""


def bug_report(program: str, arguments: Sequence[str], error: Exception) -> str:
    """Return the traceback of an error that is no person's slip, and what to send with a report of it."""
    command = shlex.join([program, *arguments])
    return (
        f"{''.join(traceback.format_exception(error)).rstrip()}\n\n"
        f"This is a bug of analysis, not of what was asked. Please report it to those who keep this copy, with the\n"
        f"text above, the file that was read, and the command: {command[:500]}"
    )


def printable(text: str) -> str:
    r"""Return a message with control characters and half surrogates as escapes, which no terminal obeys.

    Example:
        >>> print(printable("no column '\x1b[2J'"))
        no column '\x1b[2J'
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
