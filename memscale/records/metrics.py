"""The metrics of a run: an append-only file of lines `step tokens time split name value chain`.

`chain` is the beginning of a SHA-256 over the line and the chain of the line before it; before the first line it is the
run's id. So a line that was edited, removed, moved or comes from another run is noticed (`read_metrics`). A line that a
crash left incomplete is dropped. Lines of earlier versions have no `chain`; they are read, and the chain goes on over
them.

On resume the file is cut back to the checkpoint that is resumed from, so no step is in it twice; of a damaged file the
lines before the damage are kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TextIO

from memscale.errors import RecordError
from memscale.records.access import open_to_append
from memscale.records.atomic import write_bytes

_CHAIN = ', "chain": "'
_CHAIN_DIGITS = 16


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
    """'train', 'validation', 'memory', 'moe' for usage statistics, or 'record' for the file itself."""
    name: str
    value: float
    """May be NaN or infinite (written as null, "inf" or "-inf": JSON has no such numbers)."""


_FIELDS = {field.name for field in fields(Metric)}


class MetricsLog:
    """Appends to one file; buffered until `flush`. Without a file, where another process writes it, to nothing."""

    def __init__(self, path: Path | None, run_id: str = "") -> None:
        """Go on after the last line of the file, which must be whole (`cut_back`). `run_id`: the run's, for the chain.

        Raises:
            RecordError: A line of the file is damaged.

        """
        self._file: TextIO | None = None
        self.num_lines = 0
        """In the file, with those that are still buffered."""
        self._chain = run_id
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                for self._chain, _ in _lines(path, run_id):
                    self.num_lines += 1
            self._file = open(path, "a", encoding="utf-8", opener=open_to_append)  # noqa: SIM115 (closed by close)

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
            text = json.dumps(line, allow_nan=False)
            self._chain = _next(self._chain, text)
            self._file.write(f'{text[:-1]}{_CHAIN}{self._chain}"}}\n')
            self.num_lines += 1

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


def read_metrics(path: Path, run_id: str | None = None) -> Iterator[Metric]:
    """Yield the metrics of a file in order; nothing where there is no file. Drops an incomplete last line.

    Args:
        path: The file.
        run_id: Of the run whose metrics they must be; None: of any run.

    Raises:
        RecordError: A line is damaged, moved, or of another run. The lines before it have been yielded.

    """
    if path.exists():
        for number, (_, line) in enumerate(_lines(path, run_id), 1):
            yield _metric(path, number, line)


def cut_back(path: Path, step: int, run_id: str | None = None) -> int:
    """Drop every line after `step`, and everything from the first damaged line on, atomically; return the lines kept.

    Args:
        path: The file. Where there is none, or a folder, nothing is done.
        step: Optimizer steps of the checkpoint that is resumed from.
        run_id: Of the run whose metrics they must be; None: of any run.

    """
    if not path.is_file():
        return 0
    kept: list[str] = []
    try:
        for number, (_, line) in enumerate(_lines(path, run_id), 1):
            if _metric(path, number, line).step > step:
                break
            kept.append(line)
    except RecordError:
        pass  # what is damaged, and all after it, is dropped
    write_bytes(path, "".join(kept).encode())
    return len(kept)


def _lines(path: Path, run_id: str | None) -> Iterator[tuple[str, str]]:
    """Yield the chain after each whole line, and the line. Raises RecordError."""
    chain = run_id
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith("\n"):
                    return
                body, mark, rest = line.rpartition(_CHAIN)
                text = f"{body}}}" if mark else line.rstrip("\n")
                given = rest[:_CHAIN_DIGITS] if mark else None
                # The first line of any run is believed: its chain begins with an id that is not known here.
                chain = (given or _next("", text)) if chain is None else _next(chain, text)
                if given is not None and (given != chain or rest[_CHAIN_DIGITS:] != '"}\n'):
                    raise RecordError(
                        f"{path}, line {number} does not follow the line before it (or the run's id): a line was "
                        "edited, moved, removed, or comes from another run"
                    )
                yield chain, line
    except UnicodeDecodeError:
        raise RecordError(f"{path} is no text; it was damaged outside memscale") from None
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}") from None


def _next(chain: str, text: str) -> str:
    return hashlib.sha256(f"{chain}\n{text}".encode()).hexdigest()[:_CHAIN_DIGITS]


def _metric(path: Path, number: int, line: str) -> Metric:
    """Return the metric of a line. Raises RecordError."""
    try:
        content = json.loads(line)
        content.pop("chain", None)
        if content.keys() != _FIELDS:
            wrong = ", ".join(sorted(content.keys() ^ _FIELDS))
            raise RecordError(f"{path}, line {number}: keys are {', '.join(_FIELDS)}; it differs in {wrong}")
        value = content["value"]
        content["value"] = math.nan if value is None else float(value)
        return Metric(**{**content, "step": int(content["step"]), "tokens": int(content["tokens"])})
    except RecordError:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RecordError(f"{path}, line {number} is damaged ({error})") from None
