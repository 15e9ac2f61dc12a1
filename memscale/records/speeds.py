"""How fast this machine trained each family: kept beside the runs, so that the next forecast is a measurement."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from memscale.errors import RecordError
from memscale.records.atomic import read_json, write_json

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Measured on the last finished run of a family."""

    flops_per_second: float
    """Training FLOPs of one slot."""
    overhead_seconds: float
    """What a run costs beside training: starting, evaluating, writing."""


def read_speeds(runs_root: Path, machine: str) -> dict[str, Speed]:
    """Family -> speed on `machine`; empty where nothing was measured (or the file is damaged: it is only a cache)."""
    try:
        content = read_json(runs_root / "speeds.json", format=FORMAT)
    except RecordError:
        return {}
    return {family: Speed(**speed) for family, speed in content["machines"].get(machine, {}).items()}


def record_speed(runs_root: Path, machine: str, family: str, speed: Speed) -> None:
    """Keep `speed` as the family's on `machine`."""
    path = runs_root / "speeds.json"
    try:
        machines = read_json(path, format=FORMAT)["machines"]
    except RecordError:
        machines = {}
    machines.setdefault(machine, {})[family] = asdict(speed)
    write_json(path, {"machines": machines}, format=FORMAT)
