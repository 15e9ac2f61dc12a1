"""Approach 1 (Hoffmann et al. 2022, section 3.1): the runs that no cheaper run beats, and power laws through them.

With whole training curves these are the lowest losses at each number of FLOPs; of final losses they are the runs with a
lower loss than every run of as few FLOPs or fewer. It is the roughest of the three approaches, for it sees only the
sizes that were tried. No interval is given: the error of a coarse grid of sizes is not that of the runs' noise, and
resampling the runs does not show it.
Refuses an envelope of fewer than three runs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.allocation.frontier import ComputeOptimalFrontier, IsoFlopMinimum, PowerFit
from analysis.errors import FitError

FloatArray = npt.NDArray[np.float64]
LEAST = 3
NO_INTERVAL = "the envelope knows only the sizes that were tried; the noise of the runs does not show that error"


def envelope(
    params_N: FloatArray, tokens_N: FloatArray, flops_N: FloatArray, loss_N: FloatArray
) -> ComputeOptimalFrontier:
    """The frontier by the envelope of all runs.

    Args:
        params_N: model size of each run, parameters.
        tokens_N: training tokens of each run.
        flops_N: training FLOPs of each run.
        loss_N: of each run.

    Raises:
        FitError: where fewer than three runs of different FLOPs lie on the envelope.
    """
    front = unbeaten(flops_N, loss_N)
    if len(front) < LEAST or np.ptp(np.log(flops_N[front])) == 0:
        raise FitError(
            f"an envelope needs at least {LEAST} runs of different FLOPs that no cheaper run beats; this"
            f" table has {len(front)}"
        )
    log_C = np.log10(flops_N[front])
    lines = []
    for values in (params_N, tokens_N):
        slope, intercept = (float(value) for value in np.polyfit(log_C, np.log10(values[front]), 1))
        lines.append(PowerFit(exponent=slope, exponent_ci95=None, intercept=intercept, interval_from=NO_INTERVAL))
    minima = tuple(
        IsoFlopMinimum(
            flops=float(flops_N[at]), params=float(params_N[at]), tokens=float(tokens_N[at]), loss=float(loss_N[at]),
            num_points=1, reason="",
        )
        for at in front
    )  # fmt: skip
    return ComputeOptimalFrontier(approach="1 (envelope)", params=lines[0], tokens=lines[1], minima=minima)


def unbeaten(flops_N: FloatArray, loss_N: FloatArray) -> npt.NDArray[np.intp]:
    """Indices, by rising FLOPs, of the runs with a lower loss than every run of as few FLOPs or fewer."""
    order = np.lexsort((loss_N, flops_N))
    lowest = np.minimum.accumulate(loss_N[order])
    before = np.concatenate([[np.inf], lowest[:-1]])
    return np.asarray(order[loss_N[order] < before], dtype=np.intp)
