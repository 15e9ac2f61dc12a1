"""One thing that was looked at, what it means, and what to do where it is not as it should be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    topic: str
    """machine, slurm, files or mlflow."""
    good: bool
    what: str
    meaning: str
