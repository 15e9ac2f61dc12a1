"""`isoflop`: the compute-optimal model size and tokens of a table of runs, as a notebook calls it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from analysis.allocation.approaches import Approaches, IsoFlopRuns, LawOptions, approaches
from analysis.allocation.curve import Method
from analysis.allocation.diagnostics import warnings_of
from analysis.allocation.minima import DEFAULT_METHOD
from analysis.allocation.parametric import FLOPS_PER_PARAM_TOKEN
from analysis.errors import FitError, TableError
from analysis.tables import Observations, TableLike, TableOptions, observe

if TYPE_CHECKING:
    from typing_extensions import Unpack

AHEAD = 10.0
"""Without `at`, the optimum is given at the least and the most FLOPs of the table, and so many times beyond."""


def isoflop(
    table: TableLike | Observations,
    *,
    at: Sequence[float] | None = None,
    method: Method = DEFAULT_METHOD,
    objective: str = "log_huber",
    delta: float | None = None,
    fix: Mapping[str, float] | None = None,
    tie: Mapping[str, str] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    bootstrap: int | None = None,
    seed: int = 0,
    **options: Unpack[TableOptions],
) -> Approaches:
    """Find N*(C) and D*(C), the compute-optimal parameters and tokens, by the three approaches of Hoffmann et al. 2022.

    Approach 2 (isoFLOP curves) answers: the minimum of each budget's curve of loss against model size, and power laws
    through the minima, with 95 % intervals from the runs' noise about the curves. The envelope (approach 1), the law
    L = E + A/N^alpha + B/D^beta (approach 3) and the other isoFLOP methods are given beside it.

    Args:
        table: a DataFrame, a path or observations, one row a run, with parameters N, tokens D, FLOPs C (6 N D where it
            is not given) and the loss. Rows within 10 % of one number of FLOPs are of one budget.
        at: training FLOPs whose optimum is given.
        method: of approach 2: 'window' (right on wide and on narrow grids), 'parabola' through all runs of a budget, or
            'akima'.
        objective: of approach 3's fit, as of `analysis.fit`.
        delta: of a Huber objective.
        fix: coefficients of the law held at a value.
        tie: coefficients of the law that equal another.
        bounds: of the law's coefficients.
        bootstrap: refits to resampled runs for approach 3; None for the default intervals of a fit.
        seed: of all draws.
        **options: the columns and rows of the table (`TableOptions`). Rows of one `cluster` are checkpoints of one run.

    Returns:
        All approaches, with `to_frame()`, `minima_frame()` and `summary()`.

    Raises:
        TableError: a column is missing or a value cannot be used.
        FitError: no approach works on the table; the reason of each is given.

    Example:
        >>> import numpy as np, pandas as pd
        >>> best = {1e18: 1e8, 1e19: 3.2e8, 1e20: 1e9}
        >>> rows = [(n, c / 6 / n, 4 - 0.1 * np.log10(c) + 0.3 * np.log10(n / best[c]) ** 2)
        ...         for c in best for n in best[c] * np.array([0.3, 0.5, 1.0, 2.0, 3.0])]
        >>> found = isoflop(pd.DataFrame(rows, columns=["N", "D", "loss"]), at=[1e21])
        >>> round(found.isoflop.params.exponent, 2)
        0.5
    """
    observations = observe(table, reads=("N", "D"), **options)
    runs = runs_of(observations)
    flops = _flops(at, float(runs.flops.min()), float(runs.flops.max()))
    law = LawOptions(objective=objective, delta=delta, fixed=fix, tied=tie, bounds=bounds, bootstrap=bootstrap or 0)
    found = approaches(runs, flops=flops, method=method, law=law, seed=seed)
    columns = {"N": runs.params, "D": runs.tokens, "C": runs.flops}
    return replace(found, warnings=warnings_of(found, columns))


def runs_of(observations: Observations) -> IsoFlopRuns:
    """The arrays of the approaches, without rows held out; C = 6 N D where there are no FLOPs. Raises TableError."""
    columns = observations.columns
    if "N" not in columns or "D" not in columns:
        raise TableError("isoFLOP curves need --params COL, and --tokens COL or --flops COL")
    flops = columns.get("C", FLOPS_PER_PARAM_TOKEN * columns["N"] * columns["D"])
    weight = observations.weight
    if observations.stderr is not None:
        # The noise is relative to the loss (analysis.allocation.curve_noise).
        weight = (observations.loss / observations.stderr) ** 2
    kept = slice(None) if observations.held_out is None else ~observations.held_out
    cluster = observations.cluster
    return IsoFlopRuns(
        params=columns["N"][kept], tokens=columns["D"][kept], flops=flops[kept], loss=observations.loss[kept],
        weight=None if weight is None else weight[kept], cluster=None if cluster is None else cluster[kept],
    )  # fmt: skip


def _flops(at: Sequence[float] | None, least: float, most: float) -> list[float]:
    if at is None:
        return [least, most, AHEAD * most]
    flops = [float(value) for value in np.atleast_1d(np.asarray(at, dtype=np.float64))]
    bad = [value for value in flops if not (math.isfinite(value) and value > 0)]
    if bad or not flops:
        raise FitError(f"FLOPs must be finite and above 0; given {bad[0] if bad else 'none'}")
    return flops
