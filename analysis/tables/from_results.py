"""A sweep's results as points: the runs that are compared, with every count by the name the results table gives it.

Tuning runs and runs without a final loss are left out and kept in the record. The status has been judged where the
results were read, and is not judged again.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.errors import TableError
from analysis.tables.observations import FLOPS, LOSS, PARAMS, SETTING, TOKENS, Exclusion, Observations
from analysis.tables.replicates import find_repeats
from analysis.tables.results import Results
from analysis.tables.runs import Runs
from analysis.tables.suggestion import suggestion


def of_results(
    results: Results,
    *,
    params: str = "params_active",
    tokens: str = "tokens",
    flops: str = "flops_train",
    loss: str = "loss_nats",
    factors: dict[str, str] | None = None,
    series: str | None = None,
) -> Observations:
    """The compared runs (of one series, or of all) as points. Raises TableError.

    Which parameters N counts is the caller's choice, since it decides the exponents.
    """
    runs = results.compare
    chosen = np.arange(len(runs)) if series is None else np.flatnonzero(runs.of(series))
    if len(chosen) == 0:
        raise TableError(f"{results.path} has no done run of the series '{series}'; it has {', '.join(runs.labels)}")
    named = {PARAMS: params, TOKENS: tokens, FLOPS: flops, **(factors or {}), "loss": loss}
    columns = {letter: _column(results, runs, column)[chosen] for letter, column in named.items()}
    losses = columns.pop("loss")
    for letter, values in columns.items():
        for run in np.flatnonzero(~np.isfinite(values)):
            place = f"{results.path}, row {int(runs.row[chosen[run]])}, column '{named[letter]}'"
            raise TableError(f"{place}: has no value. Take one series, or another column for {letter}")
    seed = runs.seed[chosen]
    # Series that agree in every number are still different models.
    series_code = np.array([runs.labels.index(runs.series[run]) for run in chosen], dtype=np.float64)
    repeats = find_repeats([*columns.values(), series_code], seed, losses)
    return Observations(
        source=str(results.path),
        sha256=results.sha256,
        num_rows=results.num_rows,
        roles=named,
        frame=pd.DataFrame(
            {**columns, LOSS: losses, SETTING: repeats.setting}, index=pd.Index(runs.row[chosen], name="row")
        ),
        exclusions=_exclusions(results, runs, chosen.tolist(), series),
    )


def _column(results: Results, runs: Runs, column: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if column not in runs.numbers:
        raise TableError(f"{results.path} has no number column '{column}'.{suggestion(column, list(runs.numbers))}")
    values: np.ndarray[tuple[int], np.dtype[np.float64]] = runs.number(column)
    return values


def _exclusions(results: Results, runs: Runs, chosen: list[int], series: str | None) -> tuple[Exclusion, ...]:
    """Every row of the table that is no point, by row."""
    taken = set(chosen)
    unfinished = [Exclusion(row=one.row, rule="status", reason=one.reason) for one in results.left_out]
    known = {one.row for one in unfinished}
    tuning = [
        Exclusion(row=int(row), rule="stage", reason="a tuning run of the sweep, which no comparison counts")
        for row in results.tune.row
        if int(row) not in known
    ]
    others = [
        Exclusion(row=int(row), rule=f"series {series}", reason=f"of the series '{runs.series[at]}'")
        for at, row in enumerate(runs.row)
        if at not in taken
    ]
    return tuple(sorted([*unfinished, *tuning, *others], key=lambda one: one.row))
