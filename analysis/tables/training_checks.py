"""What of the training biases a fit, as far as a table shows it: rates at an edge of their sweep, unfinished schedules.

A loss is a family's best at its size and tokens only where learning rates were tried on both sides of the best one; and
a loss read before the end of its schedule is higher than that of a run of so many tokens (Hoffmann et al. 2022,
appendix B: the cosine has to end at D). Both are warnings: only new runs can correct them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis import formatting
from analysis.tables.filters import listed
from analysis.tables.observations import IntArray

FloatArray = npt.NDArray[np.float64]

LEAST_RATES = 2
"""Fewest rates at one setting that make a sweep with edges."""
SAME = 0.01
"""Tokens and a schedule's end are equal where they differ by less, relative."""


def rates_at_the_edge(rate: FloatArray, loss: FloatArray, setting: IntArray, row: IntArray) -> list[str]:
    """Warn where the lowest loss of a setting has the smallest or largest of its rates.

    `setting` numbers the rows that agree in all other columns; a rate's loss is the mean of its rows.
    """
    edges, swept = [], 0
    for number in np.unique(setting):
        here = np.flatnonzero(setting == number)
        rates, place = np.unique(rate[here], return_inverse=True)
        if len(rates) < LEAST_RATES:
            continue
        swept += 1
        mean = np.bincount(place, weights=loss[here]) / np.bincount(place)
        best = int(mean.argmin())
        if best in (0, len(rates) - 1):
            edges.append(int(row[here[place == best][0]]))
    if not swept:
        return ["no setting has more than one learning rate: whether a better one lies elsewhere cannot be told"]
    if not edges:
        return []
    return [
        f"at {len(edges)} of {formatting.counted(swept, 'setting')} the lowest loss has the smallest"
        " or the largest learning rate tried"
        f" ({listed(edges)}): a better one may lie beyond, and the loss there may be too high"
    ]


def unfinished_schedules(tokens: FloatArray, end: FloatArray, row: IntArray) -> list[str]:
    """Warn of rows that were not read at the end of their learning-rate schedule; `end` in tokens."""
    off = np.abs(tokens / end - 1) > SAME
    if not off.any():
        return []
    rows = [int(one) for one in row[off]]
    share = tokens[off] / end[off]
    return [
        f"{len(rows)} of {formatting.counted(len(tokens), 'row')}"
        f" {formatting.verb(len(rows), 'was', 'were')} not read at the end of the schedule, but at {share.min():.3g} to"
        f" {share.max():.3g} of it ({listed(rows)}): their losses are not those of runs of so many tokens"
    ]
