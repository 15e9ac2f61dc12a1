"""`fit`: a law on any table of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt

from analysis import formatting
from analysis.errors import FitError
from analysis.fitting.fit_law import fit_law
from analysis.fitting.law_columns import columns_for
from analysis.inference.prediction import predicted_loss
from analysis.inference.result import Fit, FitWarning, HeldOutError, TableNotes
from analysis.inference.run_noise import run_noise
from analysis.laws.law import Law
from analysis.laws.registry import law_of
from analysis.solver.objective import Objective
from analysis.tables import Observations, TableLike, TableOptions, observe

if TYPE_CHECKING:
    from typing_extensions import Unpack

FloatArray = npt.NDArray[np.float64]


def fit(
    table: TableLike | Observations,
    law: Law | str,
    *,
    objective: str | Objective = "log_huber",
    delta: float | None = None,
    fix: Mapping[str, float] | None = None,
    tie: Mapping[str, str] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    bootstrap: int | None = None,
    seed: int = 0,
    **options: Unpack[TableOptions],
) -> Fit:
    """Fit a scaling law to a table of runs.

    The optimum is the best of many starts; 95 % intervals come from 1,000 refits to the law's prediction plus resampled
    residuals, or to resampled groups where rows are grouped (`cluster`, or checkpoints of one run); how often they hold
    the truth is in `benchmarks/results/coverage.json`. What the table does not determine has an infinite interval.

    Args:
        table: A DataFrame, a path, or observations.
        law: A law or its name, such as 'chinchilla'; `analysis.laws.LAWS` has all of them with formula and source.
        objective: What is minimised, such as 'log_huber' (Hoffmann et al. 2022) or 'log_lsq'; see `OBJECTIVES`.
        delta: Of a Huber objective (default 1e-3).
        fix: Coefficients held at values, such as {"E": 1.8}; an amplitude at 0 takes its term out of the law.
        tie: Coefficients with another's value, such as {"alpha": "beta"}.
        bounds: Bounds in the place of the law's, such as {"alpha": (0.1, 1)}.
        bootstrap: Number of refits to resampled rows (pairs) for the intervals, instead of the default intervals.
        seed: Of the resampling.
        **options: Which column is what, and which rows are left out: loss, params, tokens, flops, cluster, weight,
            where, ...; see `TableOptions`. Rows that `train` calls test rows are predicted and not fitted.

    Returns:
        The fit: `summary()`, `to_frame()`, `coefficients` with `value` and `ci95`, `warnings`, `predict`.

    Raises:
        TableError: The table cannot be read, or a column or value in it cannot be used.
        FitError: The rows cannot carry the law, or a choice is not possible.

    Example:
        >>> import numpy as np
        >>> params = np.repeat(np.geomspace(1e7, 1e9, 6), 6)
        >>> tokens = np.tile(np.geomspace(1e9, 3e10, 6), 6)
        >>> noise = 1 + 0.002 * np.random.default_rng(1).standard_normal(36)
        >>> loss = (1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28) * noise
        >>> found = fit({"N": params, "D": tokens, "loss": loss}, "chinchilla")
        >>> found.coefficient("alpha").ci95.holds(0.34), list(found.to_frame().columns[:3])
        (True, ['coefficient', 'value', 'se'])
    """
    law = law_of(law)
    runs = observe(table, reads={column.name for column in law.columns}, **options)
    how = Choices(objective=objective, delta=delta, fixed=fix, tied=tie, bounds=bounds, bootstrap=bootstrap or 0,
                  seed=seed)  # fmt: skip
    return _fit(runs, law, how)


class Choices(TypedDict):
    """The keywords of `fit_law` that a person chooses."""

    objective: str | Objective
    delta: float | None
    fixed: Mapping[str, float] | None
    tied: Mapping[str, str] | None
    bounds: Mapping[str, tuple[float, float]] | None
    bootstrap: int
    seed: int


def _fit(runs: Observations, law: Law, how: Choices) -> Fit:
    """The law fitted to the training rows, with a summary of the table and the error on the test rows."""
    columns = columns_for(law, runs.columns)
    trained_N = np.ones(len(runs), dtype=bool) if runs.held_out is None else ~runs.held_out
    if not trained_N.any():
        raise FitError(f"{runs.source}: every row is a test row; some rows must be left to fit")

    def part(values: npt.NDArray[np.generic] | None) -> npt.NDArray[np.generic] | None:
        return None if values is None else values[trained_N]

    found = fit_law(
        law,
        {name: values[trained_N] for name, values in columns.items()},
        runs.loss[trained_N],
        weights=part(runs.weight),
        stderr=part(runs.stderr),
        cluster=runs.column_names.get("cluster"),
        clusters=part(runs.cluster),
        **how,
    )
    notes = TableNotes(source=runs.source, lines=tuple(table_lines(runs)), setting=runs.setting[trained_N])
    warnings = (*(FitWarning(code="table", text=text) for text in runs.warnings), *found.warnings)
    found = replace(found, table=notes, warnings=warnings)
    if trained_N.all():
        return found
    held_out = _held_out(found, {name: values[~trained_N] for name, values in columns.items()}, runs.loss[~trained_N])
    return replace(found, table=replace(notes, held_out=held_out))


def _held_out(found: Fit, columns: Mapping[str, FloatArray], loss_X: FloatArray) -> HeldOutError:
    """The error on rows that were not fitted, and how many of them lie in the next run's interval."""
    assert found.table is not None
    try:
        noise = run_noise(found, found.table.setting)
    except FitError:
        noise = None
    given = predicted_loss(found, columns, noise)
    inside_X = (given.of_run[0] <= loss_X) & (loss_X <= given.of_run[1])
    with np.errstate(all="ignore"):
        error_X = np.log(given.loss / loss_X)
    is_known = noise is not None and not given.unknown.all()
    return HeldOutError(
        num_points=len(loss_X),
        rms=float(np.sqrt(np.mean(error_X**2))),
        in_run_interval=float(inside_X[~given.unknown].mean()) if is_known else float("nan"),
    )


def table_lines(runs: Observations) -> list[str]:
    """The summary's lines about the table: columns, rows left out, replicates."""
    left_out = ", ".join(f"{number} by {rule}" for rule, number in runs.excluded_by().items()) or "none"
    lines = [
        f"columns    {', '.join(f'{letter} = {column}' for letter, column in runs.column_names.items())}",
        f"left out   {left_out} (of {formatting.counted(runs.num_rows, 'row')})",
    ]
    if runs.num_replicated:
        lines.append(
            f"replicates {runs.num_replicated} of {formatting.counted(runs.num_settings, 'setting')}"
            f" {formatting.verb(runs.num_replicated, 'has', 'have')} several runs"
        )
    return lines
