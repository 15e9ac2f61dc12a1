"""Bring the results of finished sweeps into docs/findings/: the columns that analysis reads, every digit kept.

A runs folder holds one folder a sweep, with results.csv in it. Several runs folders are repeats: the sweeps of the
first become SWEEP-01.csv, of the second SWEEP-02.csv; with one folder it is SWEEP.csv. What the plan said it could tell
(resolution.json) goes along. Refuses a sweep whose table has a run of the comparison that is not at its end, and a name
that is no folder.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from analysis.errors import TableError
from analysis.tables import atomic_write, planned_resolution
from analysis.tables.results import NEEDED_NUMBERS, OTHER_NUMBERS
from analysis.tables.runs import TEXT

PREFIXES = ("loss_nats_", "score_")
UNFINISHED = ("planned", "queued", "running")
LEFT_OUT = ("run_id", "peak_memory_bytes", "tokens_per_second")
"""What no finding reads."""


def gather(runs: Sequence[Path], sweeps: Iterable[str], folder: Path) -> list[Path]:
    """Copy the reduced tables of these sweeps, where they exist; returns the files.

    Args:
        runs: Runs folders; several are repeats, in this order.
        sweeps: Names of the sweeps.
        folder: Where the tables go; earlier tables of a sweep that is found are removed.

    Raises:
        TableError: A runs folder is not there, or a sweep in it is not finished.
    """
    for path in runs:
        if not path.is_dir():
            raise TableError(f"{path} is no folder of runs; give the folder that holds SWEEP/results.csv")
    written = []
    for sweep in sweeps:
        sources = [path / sweep for path in runs if (path / sweep / "results.csv").is_file()]
        contents = [reduced(source / "results.csv") for source in sources]
        if contents:
            for old in folder.glob(f"{sweep}-*.*"):
                old.unlink()
        for at, (source, content) in enumerate(zip(sources, contents, strict=True), start=1):
            name = sweep if len(sources) == 1 else f"{sweep}-{at:02d}"
            written.append(atomic_write.write(folder / f"{name}.csv", content))
            stated = source / planned_resolution.NAME
            if stated.is_file():
                written.append(atomic_write.write(resolution_path(folder / f"{name}.csv"), stated.read_bytes()))
    return written


def resolution_path(table: Path) -> Path:
    """Where what the plan of a table stated lies beside it."""
    return table.with_suffix(f".{planned_resolution.NAME}")


def reduced(path: Path) -> bytes:
    """A results table with the columns that analysis reads, as CSV; columns without any value are left out."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row.get("stage") == "compare" and row.get("status") in UNFINISHED:
            raise TableError(f"{path}: the run {row.get('name')} is {row['status']}; gather a sweep that is finished")
    known = {*TEXT, *NEEDED_NUMBERS, *OTHER_NUMBERS} - set(LEFT_OUT)
    columns = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if (name in known or name.startswith(PREFIXES)) and any(row.get(name) for row in rows)
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
