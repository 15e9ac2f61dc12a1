"""The errors meant for users. Each message has what, where, what was given, what is needed and what to do."""

from __future__ import annotations

import difflib
import re
import shlex
import traceback
from collections.abc import Iterable, Sequence

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class MemscaleError(ValueError):
    """An error that a person can fix; the command line prints it without a traceback."""

    def __init__(self, message: str = "") -> None:
        """`message` may hold what a file or a person gave, whatever its characters."""
        super().__init__(printable(message))


class ConfigError(MemscaleError):
    """A configuration (a YAML file, an override, an argument) is invalid."""


class PlanError(MemscaleError):
    """The sweep is valid, but no plan meets its terms."""


class DataError(MemscaleError):
    """A data source or prepared data are missing, empty, unreadable or different from their configuration."""


class RecordError(MemscaleError):
    """A file of a run is missing, corrupt, of a newer format, or locked by another process."""


class CheckpointError(RecordError):
    """A checkpoint is invalid: a file is missing, or its checksum or content is wrong."""


def shown(value: object) -> str:
    """Return a value as it is written in Python, shortened to a line of a message.

    Example:
        >>> shown("9G"), len(shown("x" * 5_000))
        ("'9G'", 140)
    """
    text = repr(value[:200] if isinstance(value, str) else value)
    return text if len(text) <= 140 else f"{text[:137]}..."


def one_line(text: str, most: int = 300) -> str:
    r"""Return what another library says as a part of a sentence: one line, no control characters, at most `most` long.

    Example:
        >>> one_line("cannot  read\nthe \x07file")
        'cannot read the ?file'
    """
    words = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in words[:most])


def nearest(given: str, choices: Iterable[str]) -> str:
    """Return a hint to append to a message: the closest of `choices`, or '' where none is close.

    Example:
        >>> nearest("flops_per_tokn", ["tokens", "flops_per_token"])
        " Did you mean 'flops_per_token'?"
    """
    close = difflib.get_close_matches(given[:200], list(choices), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def bug_report(program: str, arguments: Sequence[str], error: Exception) -> str:
    """Return the traceback of an error that is no person's slip, and what to send with a report of it."""
    command = shlex.join([program, *arguments])
    return (
        f"{''.join(traceback.format_exception(error)).rstrip()}\n\n"
        f"This is a bug of memscale, not of what was asked. Please report it to those who keep this copy, with the\n"
        f"text above, the file that was read, and the command: {command[:500]}"
    )


def printable(text: str) -> str:
    r"""Return a message with control characters and half surrogates as escapes, which no terminal obeys.

    Example:
        >>> print(printable("no column '\x1b[2J'"))
        no column '\x1b[2J'
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
