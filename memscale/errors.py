"""The errors a person may meet. Each says what, where, what was given, what is needed and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MemscaleError(ValueError):
    """A mistake or a fault that a person can mend; the command line prints it without a traceback."""


class ConfigError(MemscaleError):
    """Something a person wrote (a YAML file or an override) cannot be used."""


class PlanError(MemscaleError):
    """The sweep is well formed, but no plan meets what it asks for."""


class DataError(MemscaleError):
    """A data source is missing, empty or not what its configuration says."""


class RecordError(MemscaleError):
    """A file of a run is missing, corrupt, of a newer format, or held by somebody else."""


class CheckpointError(RecordError):
    """A checkpoint cannot be trusted: a file is missing, or its checksum or its content differs."""


def nearest(given: str, choices: Iterable[str]) -> str:
    """Return ' Did you mean X?' for the closest of `choices`, or '' where none is close."""
    close = difflib.get_close_matches(given, list(choices), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
