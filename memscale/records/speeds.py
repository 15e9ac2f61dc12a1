"""`speeds.json`: how fast each kind of machine trained which models, kept beside the runs.

A point is one model of one series at one batch. Points measured only for a forecast are marked
`calibration` and replace older ones. Points of finished runs are marked `run` and are averaged, because a run's speed
depends on what else the machine does. A file of the first format, which had a speed for each family and none for each
model, is read as empty, and so is a damaged one: it is only a cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from memscale.errors import RecordError
from memscale.records.access import make_folder
from memscale.records.atomic import read_json, write_json

FORMAT = 2
MOST_AVERAGED = 10
"""From then on a finished run counts a tenth, so that the mean follows the machine."""
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
    """Training FLOPs of one worker."""
    start_seconds: float
    """What a run takes beside training and the two below."""
    save_seconds: float | None
    """Of each checkpoint before the last; None where none was measured."""
    evaluation_seconds: float | None
    """Of the evaluation at its end; None where none was measured."""
    num_runs: int = 0
    """Finished runs that this is the mean of; at most MOST_AVERAGED."""

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
    """Keep `points` as those of `machine`: over older ones of the same models, or averaged with them."""
    known = {point.key: point for point in read_speeds(runs_root, machine)}
    for point in points:
        older = known.pop(point.key, None)
        known[point.key] = point if older is None else _joined(older, point)
    machines = _machines(runs_root)
    machines[machine] = [asdict(point) for point in known.values()]
    make_folder(runs_root)
    write_json(runs_root / "speeds.json", {"machines": machines}, format=FORMAT)


def _joined(older: SpeedPoint, newer: SpeedPoint) -> SpeedPoint:
    """`newer`, averaged with `older` where both are of runs; what it lacks of saving and evaluating is the older's."""
    count = min(older.num_runs, MOST_AVERAGED - 1) if older.source == newer.source == "run" else 0

    def mean(before: float, now: float) -> float:
        return (count * before + now) / (count + 1)

    def known_mean(before: float | None, now: float | None) -> float | None:
        return mean(before, now) if before is not None and now is not None else before if now is None else now

    return replace(
        newer,
        # Of speeds the harmonic mean: it is the seconds that add up.
        flops_per_second=1 / mean(1 / older.flops_per_second, 1 / newer.flops_per_second),
        start_seconds=mean(older.start_seconds, newer.start_seconds),
        save_seconds=known_mean(older.save_seconds, newer.save_seconds),
        evaluation_seconds=known_mean(older.evaluation_seconds, newer.evaluation_seconds),
        num_runs=count + 1 if newer.source == "run" else 0,
    )


def _machines(runs_root: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = read_json(runs_root / "speeds.json", format=FORMAT)
    except RecordError:
        return {}
    if content["format"] < FORMAT or not isinstance(content.get("machines"), dict):
        return {}
    return dict(content["machines"])
