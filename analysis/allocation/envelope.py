"""Approach 1 (Hoffmann et al. 2022): the runs that no cheaper run beats, and a power law through them.

With whole training curves these are the lowest losses at each number of FLOPs; of final losses they are the runs with a
lower loss than every run of as few FLOPs or fewer. Decides that both ends of the range count. It is the roughest of
the three approaches: it sees only the runs that were tried, and its interval is that of resampled runs.
Refuses an envelope of fewer than three runs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.allocation.isoflop import Frontier, Minimum, power_fit
from analysis.errors import FitError
from analysis.interval import ConfidenceInterval

FloatArray = npt.NDArray[np.float64]
LEAST = 3


def envelope(
    params_N: FloatArray,
    tokens_N: FloatArray,
    flops_N: FloatArray,
    loss_N: FloatArray,
    *,
    num_replicates: int = 0,
    seed: int = 0,
) -> Frontier:
    """The frontier by the envelope of all points. Raises FitError."""
    front = unbeaten(flops_N, loss_N)
    if len(front) < LEAST or np.ptp(np.log(flops_N[front])) == 0:
        raise FitError(
            f"an envelope needs at least {LEAST} runs of different FLOPs that no cheaper run beats; there are"
            f" {len(front)}"
        )
    log_C, log_N, log_D = (np.log10(values[front]) for values in (flops_N, params_N, tokens_N))
    fits = [power_fit(log_C, log_value, None) for log_value in (log_N, log_D)]
    if num_replicates:
        random = np.random.default_rng(seed)
        slopes = []
        for _ in range(num_replicates):
            rows = random.integers(0, len(loss_N), len(loss_N))
            chosen = rows[unbeaten(flops_N[rows], loss_N[rows])]
            if len(chosen) >= LEAST and np.ptp(np.log(flops_N[chosen])) > 0:
                log_C = np.log10(flops_N[chosen])
                slopes.append([np.polyfit(log_C, np.log10(values[chosen]), 1)[0] for values in (params_N, tokens_N)])
        if len(slopes) > 1:
            ends = np.quantile(np.array(slopes), [0.025, 0.975], axis=0)
            fits = [
                type(one)(
                    exponent=one.exponent,
                    exponent_ci95=ConfidenceInterval(float(ends[0, side]), float(ends[1, side])),
                    intercept=one.intercept,
                )
                for side, one in enumerate(fits)
            ]
    minima = tuple(
        Minimum(
            flops=float(flops_N[at]), params=float(params_N[at]), tokens=float(tokens_N[at]), loss=float(loss_N[at]),
            num_points=1, reason="",
        )
        for at in front
    )  # fmt: skip
    return Frontier(approach="1 (envelope)", params=fits[0], tokens=fits[1], minima=minima)


def unbeaten(flops_N: FloatArray, loss_N: FloatArray) -> npt.NDArray[np.intp]:
    """Indices, by rising FLOPs, of the points with a lower loss than every point of as few FLOPs or fewer."""
    order = np.lexsort((loss_N, flops_N))
    lowest = np.minimum.accumulate(loss_N[order])
    before = np.concatenate([[np.inf], lowest[:-1]])
    return np.asarray(order[loss_N[order] < before], dtype=np.intp)
