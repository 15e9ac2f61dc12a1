"""The noise of single runs that a plan's resolution is stated from, by what is known here.

For each measure, from the first of these that has at least `LEAST_DEGREES` degrees of freedom:

1. finished runs of this sweep: compared runs, else tuning runs of several seeds with the same rates;
2. finished runs of another sweep in this runs folder, of the same scale, sources, batch and sequence length; of several
   sweeps the one that knows it best;
3. the shipped tables (`sweeps/noise/*.csv`).

Reads the results tables of sweeps (results.csv), which their reports write; nothing here is part of a plan's hash.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from memscale.config.noise import MEASURED, NoiseRow, read_noise_tables
from memscale.config.sweep import Sweep
from memscale.config.yaml_files import sweeps_folder
from memscale.planning.comparison import Measure
from memscale.planning.noise import Value, estimate_noise
from memscale.planning.resolve import fitting_rows
from memscale.records.layout import SweepPaths

LEAST_DEGREES = 3
"""With fewer a standard deviation is known to a factor of two at best."""
_MOST_BYTES = 50_000_000
"""Larger tables of other sweeps are not read for this."""

_TableRow = Mapping[str, str]


def shipped_noise() -> tuple[NoiseRow, ...]:
    """Return the tables of noise in the sweeps folder. Raises ConfigError where one is none."""
    return read_noise_tables(sweeps_folder())


def known_noise(
    sweep: Sweep, measures: Sequence[Measure], paths: SweepPaths, shipped: Sequence[NoiseRow]
) -> tuple[NoiseRow, ...]:
    """Return the noise of each measure from the best source there is; none for a measure that no source knows.

    Args:
        sweep: The sweep as planned.
        measures: Its measures.
        paths: Its folder; other sweeps lie beside it.
        shipped: The shipped tables.
    """
    own = list(_alike(paths.results_csv, sweep))
    others: dict[str, list[_TableRow]] | None = None
    assumed = fitting_rows(shipped, sweep)
    found: list[NoiseRow] = []
    for measure in measures:
        rows = _of_rows(measure, own, sweep, "earlier runs of this sweep")
        if not rows:
            if others is None:
                others = _other_sweeps(paths, sweep)
            known = [_of_rows(measure, table, sweep, f"runs of {name} here") for name, table in others.items()]
            rows = max(known, key=lambda of: of[-1].degrees if of else 0, default=[])
        found += rows or [row for row in assumed if row.measure == measure.column]
    return tuple(found)


def _other_sweeps(paths: SweepPaths, sweep: Sweep) -> dict[str, list[_TableRow]]:
    """Return the comparable rows of the results tables of the other sweeps, by sweep."""
    tables = [path for path in sorted(paths.root.parent.glob("*/results.csv")) if path.parent != paths.root]
    return {path.parent.name: list(_alike(path, sweep)) for path in tables}


def _alike(path: Path, sweep: Sweep) -> Iterator[_TableRow]:
    """Yield the finished runs of a results table that were trained as this sweep trains: scale, batch and sources."""
    sources = {f"loss_nats_{source.name}" for source in sweep.data.sources}
    wanted = {"scale": sweep.scale.name, "status": "done", "sequence_length": str(sweep.scale.sequence_length)}
    if sweep.recipe.batch.rule == "fixed":
        wanted["batch_tokens"] = str(sweep.scale.batch_tokens)
    try:
        if path.stat().st_size > _MOST_BYTES:
            return
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                losses = {name for name, value in row.items() if value and _is_source_loss(name)}
                if losses == sources and all(row.get(key) == value for key, value in wanted.items()):
                    yield row
    except (OSError, UnicodeDecodeError, csv.Error):  # a view, which the next report writes anew
        return


def _is_source_loss(name: str | None) -> bool:
    return name is not None and name.startswith("loss_nats_") and not name.endswith("_stderr")


def _of_rows(measure: Measure, rows: Sequence[_TableRow], sweep: Sweep, words: str) -> list[NoiseRow]:
    """Return the noise of a measure by replicates among `rows`: of each budget where they differ, then of all."""
    for stage, what in (("compare", "seeds"), ("tune", "seeds at equal rates of the tuning")):
        taken = [row for row in rows if row.get("stage", "").startswith(stage)]
        noise = estimate_noise([value for row in taken if (value := _value(row, measure.column)) is not None])
        if noise is None or noise.degrees < LEAST_DEGREES:
            continue
        pooled = NoiseRow(
            scale=sweep.scale.name,
            data=sweep.data.name,
            measure=measure.column,
            std=noise.std,
            # Tuning runs are of one family at several rates: what these share says little of families.
            seed_share=noise.seed_share if stage == "compare" else 0.0,
            series_share=noise.series_share if stage == "compare" else 0.0,
            degrees=noise.degrees,
            basis=MEASURED,
            origin=f"{words}: {what}, {noise.degrees} degrees of freedom",
        )
        # A budget whose seeds agree to all digits says nothing of the noise there.
        by_budget = {budget: known for budget, known in noise.by_budget.items() if known[0] > 0}
        return [
            *(
                replace(pooled, budget=budget, std=std, degrees=degrees, origin=f"{words} at {budget}: {what}")
                for budget, (std, degrees) in by_budget.items()
            ),
            pooled,
        ]
    return []


def _value(row: _TableRow, column: str) -> Value | None:
    try:
        value, seed = float(row.get(column) or "nan"), int(row.get("seed") or "")
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    rates = (row.get(name, "") for name in ("series", "learning_rate", "table_learning_rate"))
    return Value(series=" ".join(rates), budget=row.get("budget", ""), seed=seed, value=value)
