"""Runs of several series along one axis, from plain arrays: what the gain engine is given for a table of any origin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.gains.run_noise import codes
from analysis.gains.scaling_curves import Axis
from analysis.tables.runs import FloatArray, Runs

IntArray = npt.NDArray[np.int64]

SAME_LEVEL = 0.02
"""Two runs are at one level where their x differ by less, relative."""


def runs_along(
    axis: Axis,
    *,
    series: Sequence[str],
    x: FloatArray,
    loss: FloatArray,
    unit: npt.NDArray[np.generic] | None = None,
    size: FloatArray | None = None,
    row: IntArray | None = None,
) -> Runs:
    """Group rows into levels of x and hand them on as runs.

    Args:
        axis: What x is.
        series: Which series each row is of, [N].
        x: FLOPs, seconds or parameters of each row, [N].
        loss: Nats per token, [N].
        unit: The seed of each row, or the run that it is a checkpoint of, [N]; without: each row on its own.
        size: Rows at one level that of one series that differ in it are different models, never
            replicates, [N].
        row: The row of the table, for messages.
    """
    level_N = levels(x)
    own = np.arange(len(x)) if unit is None else np.asarray(unit)
    size_N = np.zeros(len(x), dtype=np.int64)
    if size is not None:
        # Numbered inside a series and a level: series may differ in size by design, and are still compared.
        for cell in np.unique(cell_N := codes(np.array(series), level_N)):
            size_N[cell_N == cell] = levels(size[cell_N == cell])
    at_N = np.array([float(np.exp(np.log(x[level_N == level]).mean())) for level in level_N])
    columns = {
        "name": [""] * len(x),
        "family": list(series),
        "series": list(series),
        "budget": [f"{level}-{number}" for level, number in zip(level_N, size_N, strict=True)],
        "seed": codes(own),
        "budget_flops": at_N,
        axis.column: np.asarray(x, dtype=np.float64),
        "loss_nats": np.asarray(loss, dtype=np.float64),
    }
    rows = np.arange(1, len(x) + 1) if row is None else row
    return Runs(frame=pd.DataFrame(columns, index=pd.Index(rows, name="row")))


def levels(x_N: FloatArray) -> IntArray:
    """Number the levels of x by increasing x: a gap of more than `SAME_LEVEL` to the next smaller x begins another."""
    order = np.argsort(x_N, kind="stable")
    new = np.diff(np.log(x_N[order]), prepend=np.log(x_N[order[:1]])) > SAME_LEVEL
    level_N = np.empty(len(x_N), dtype=np.int64)
    level_N[order] = np.cumsum(new)
    return level_N
