"""One thing that was looked at, what it means, and what to do where it is not as it should be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that was looked at, whether it is good, and what it means for a sweep."""

    topic: str
    """machine, slurm, files or mlflow."""
    good: bool
    what: str
    meaning: str
