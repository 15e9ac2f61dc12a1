"""`heartbeat.json`: how far a worker is, replaced whole each second."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from memscale.errors import RecordError
from memscale.records.atomic import read_object, write_json

FORMAT = 1
PHASES = ("starting", "training", "evaluating")


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """How far a worker was when it last wrote."""

    time: float
    """Unix seconds."""
    step: int
    num_steps: int
    tokens: int
    loss: float | None
    tokens_per_second: float
    seconds_left: float | None
    phase: str
    """One of PHASES."""
    attempt: int
    pid: int
    host: str


def write_heartbeat(path: Path, heartbeat: Heartbeat) -> None:
    """Replace the heartbeat at `path`."""
    assert heartbeat.phase in PHASES
    write_json(path, asdict(heartbeat), format=FORMAT)


def read_heartbeat(path: Path) -> Heartbeat | None:
    """Return the last heartbeat; None where none can be read."""
    try:
        return read_object(Heartbeat, path, format=FORMAT)
    except RecordError:
        return None
