"""The errors meant for users. Each message has what, where, what was given, what is needed and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MemscaleError(ValueError):
    """An error that a person can fix; the command line prints it without a traceback."""


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


def nearest(given: str, choices: Iterable[str]) -> str:
    """Return a hint to append to a message: the closest of `choices`, or '' where none is close.

    Example:
        >>> nearest("flops_per_tokn", ["tokens", "flops_per_token"])
        " Did you mean 'flops_per_token'?"
    """
    close = difflib.get_close_matches(given, list(choices), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
