"""The metrics of a run: an append-only file of lines `step tokens time split name value`.

On resume it is cut back to the checkpoint that is resumed from, so no step is in it twice. A line that a crash
left incomplete is dropped.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from memscale.records.atomic import write_bytes


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One value of one quantity at one optimizer step."""

    step: int
    """Optimizer steps done when the value was taken."""
    tokens: int
    """Tokens trained on by then."""
    time: float
    """Unix seconds."""
    split: str
    """'train', 'validation' or 'memory', 'moe' for usage statistics."""
    name: str
    value: float
    """May be NaN or infinite (written as null, "inf" or "-inf": JSON has no such numbers)."""


class MetricsLog:
    """Appends to one file; buffered until `flush`. Without a file, where another process writes it, to nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file: TextIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)

    def add(self, step: int, tokens: int, split: str, **values: float) -> None:
        """Append one line per named value."""
        if self._file is None:
            return
        now = round(time.time(), 3)
        for name, value in values.items():
            metric = Metric(step=step, tokens=tokens, time=now, split=split, name=name, value=float(value))
            line = asdict(metric)
            if not math.isfinite(metric.value):
                line["value"] = None if math.isnan(metric.value) else ("inf" if metric.value > 0 else "-inf")
            self._file.write(json.dumps(line, allow_nan=False) + "\n")

    def flush(self, *, durable: bool = False) -> None:
        """Hand the lines to the system; with `durable`, wait until they are on the disk."""
        if self._file is not None:
            self._file.flush()
            if durable:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write everything to the disk and close the file."""
        self.flush(durable=True)
        if self._file is not None:
            self._file.close()


def read_metrics(path: Path) -> Iterator[Metric]:
    """Yield the metrics of a file in order; nothing where there is no file. Drops an incomplete last line."""
    if not path.exists():
        return
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return
            fields = json.loads(line)
            value = fields["value"]
            fields["value"] = math.nan if value is None else float(value)
            yield Metric(**fields)


def cut_back(path: Path, step: int) -> None:
    """Drop every line after `step`, atomically."""
    if not path.exists():
        return
    kept = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
    write_bytes(path, "".join(kept).encode())
