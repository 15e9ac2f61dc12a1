"""`speeds.json`: how fast each kind of machine trained which models, kept beside the runs.

A point is one model of one series at one batch; a newer one takes its place. Steps that were measured only to forecast
say `calibration`, finished runs say `run`. A file of the first format, which knew one speed a family and no model, is
read as empty, and so is a damaged one: it is only a cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from memscale.errors import RecordError
from memscale.records.atomic import read_json, write_json

FORMAT = 2
SOURCES = ("calibration", "run")


@dataclass(frozen=True, kw_only=True)
class SpeedPoint:
    """What was measured of one model on one kind of machine."""

    source: str
    """One of SOURCES."""
    family: str
    series: str
    batch_tokens: int
    sequence_length: int
    flops_per_token: float
    """Forward."""
    params_total: int
    flops_per_second: float
    """Training FLOPs of one slot."""
    start_seconds: float
    """What a run costs beside training and what stands below."""
    save_seconds: float | None
    """Of each checkpoint before the last; None where none was measured."""
    evaluation_seconds: float | None
    """Of the evaluation at its end; None where none was measured."""

    @property
    def key(self) -> tuple[str, str, int, int, float]:
        """What a newer point of the same takes the place of."""
        return (self.family, self.series, self.batch_tokens, self.sequence_length, self.flops_per_token)


def read_speeds(runs_root: Path, machine: str) -> tuple[SpeedPoint, ...]:
    """The points of `machine`; empty where nothing was measured, or where the file cannot be read."""
    rows = _machines(runs_root).get(machine, [])
    try:
        return tuple(SpeedPoint(**row) for row in rows)
    except TypeError:
        return ()


def record_speeds(runs_root: Path, machine: str, points: Iterable[SpeedPoint]) -> None:
    """Keep `points` as those of `machine`, in place of older ones of the same models.

    What was measured earlier of saving and evaluating is kept where the new point has none of it.
    """
    known = {point.key: point for point in read_speeds(runs_root, machine)}
    for point in points:
        older = known.pop(point.key, None)
        for name in ("save_seconds", "evaluation_seconds") if older is not None else ():
            if getattr(point, name) is None:
                point = replace(point, **{name: getattr(older, name)})
        known[point.key] = point
    machines = _machines(runs_root)
    machines[machine] = [asdict(point) for point in known.values()]
    write_json(runs_root / "speeds.json", {"machines": machines}, format=FORMAT)


def _machines(runs_root: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = read_json(runs_root / "speeds.json", format=FORMAT)
    except RecordError:
        return {}
    if content["format"] < FORMAT or not isinstance(content.get("machines"), dict):
        return {}
    return dict(content["machines"])
