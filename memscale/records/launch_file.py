"""`slurm/launch.json`: what a sweep was launched with, so that a job can go on with it when nobody is logged in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memscale.config.codec import from_plain, to_plain
from memscale.config.run import Digests
from memscale.config.sweep import Sweep
from memscale.errors import RecordError
from memscale.records.atomic import read_json, write_json
from memscale.records.layout import SweepPaths

FORMAT = 2
"""1 called `launcher.workers` `slots`; such a file is read as if it had the new name."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a sweep was launched with."""

    launched: float
    """Unix seconds. Attempts before it do not count against a run."""
    sweep: Sweep
    digests: Digests
    data_folder: str
    """Of the prepared data."""
    code: str
    """The snapshot that its jobs run."""
    python: str
    """The interpreter that they run it with."""


def write_launch(paths: SweepPaths, launch: Launch) -> None:
    """Write what the sweep is launched with, in place of an earlier launch."""
    write_json(paths.launch, to_plain(launch), format=FORMAT)


def read_launch(paths: SweepPaths) -> Launch | None:
    """Return what the sweep was last launched with on SLURM; None where it never was.

    A file of format 1 is read too.

    Raises:
        RecordError: The file is damaged or of a newer format.

    """
    if not paths.launch.exists():
        return None
    plain = read_json(paths.launch, format=FORMAT)
    if plain.pop("format") == 1:
        _rename_workers(plain)
    try:
        return from_plain(Launch, plain, describe=lambda key: f"{key} ({paths.launch})")
    except ValueError as error:
        raise RecordError(f"{paths.launch} cannot be read back: {error}") from None


def _rename_workers(plain: dict[str, Any]) -> None:
    """Give a launch of format 1 the key that format 2 has. A damaged file stays as it is, and is refused later."""
    sweep = plain.get("sweep")
    launcher = sweep.get("launcher") if isinstance(sweep, dict) else None
    if isinstance(launcher, dict) and "slots" in launcher:
        launcher["workers"] = launcher.pop("slots")
