"""Approach 2 (Hoffmann et al. 2022, section 3.2): the minimum of an isoFLOP curve at each budget, and its power laws.

1. Runs are grouped into FLOPs budgets.
2. Each budget's loss against log10 N (and against log10 D) is a curve (`analysis.allocation.curve`), whose minimum is
   N* (and D*). A minimum outside the sizes tried, or a lowest loss at an edge of them, does not count; nor does, for
   the method `window`, a curvature that the noise cannot tell from zero. Each is kept with its reason.
3. N* = k C^a and D* = k' C^b are straight lines in logarithms through the minima.
4. Intervals come from a parametric bootstrap of the runs' noise about the curves (`analysis.allocation.curve_noise`).

A parabola is exact in the exponents for a law symmetric about its optimum, and biased in the intercept for any other
(the tests hold it to the published bias).

Shapes: K budgets, N runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from analysis.allocation.curve import Curve, Method
from analysis.allocation.curve_noise import CurveNoise
from analysis.allocation.frontier import ComputeOptimalFrontier, IsoFlopMinimum, power_fit
from analysis.allocation.minima import DEFAULT_METHOD, FLAT, NUM_DRAWS, IsoFlopMinima, isoflop_minima
from analysis.errors import FitError

FloatArray = npt.NDArray[np.float64]

FLAT_BUDGETS = 0.25
"""Where noise hides the curvature of a larger share of budgets, those where it does not are a biased choice."""


@dataclass(frozen=True, kw_only=True)
class IsoFlopFrontier(ComputeOptimalFrontier):
    """The frontier by isoFLOP curves, with the curves."""

    method: Method
    curves: tuple[Curve | None, ...] = field(repr=False)
    """Loss against log10 N of each budget; None where it has too few sizes."""
    noise: CurveNoise | None
    """Of the runs about the curves; None where nothing is left to estimate it from."""


def isoflop_frontier(
    params_N: FloatArray,
    tokens_N: FloatArray,
    flops_N: FloatArray,
    loss_N: FloatArray,
    *,
    method: Method = DEFAULT_METHOD,
    weight_N: FloatArray | None = None,
    cluster_N: npt.NDArray[np.int64] | None = None,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> IsoFlopFrontier:
    """The compute-optimal frontier by isoFLOP curves, from arrays.

    Args:
        params_N: model size of each run, parameters.
        tokens_N: training tokens of each run.
        flops_N: training FLOPs of each run; runs within 10 % are of one budget.
        loss_N: of each run.
        method: 'window', 'parabola' or 'akima' (`analysis.allocation.curve`).
        weight_N: inversely proportional to the variance of each run's loss; equal where None.
        cluster_N: rows with one number are of one run (its checkpoints); each its own where None.
        num_draws: draws of the noise for intervals; 0 for none.
        seed: of the draws.

    Returns:
        The frontier with every budget's minimum, counted or not.

    Raises:
        FitError: for an unknown method, or fewer than two budgets with a minimum inside their sizes.
    """
    found = isoflop_minima(
        params_N, tokens_N, flops_N, loss_N, method=method, weight_N=weight_N, cluster_N=cluster_N,
        num_draws=num_draws, seed=seed,
    )  # fmt: skip
    return frontier_through(found, num_draws=num_draws, seed=seed)


def frontier_through(found: IsoFlopMinima, *, num_draws: int = NUM_DRAWS, seed: int = 0) -> IsoFlopFrontier:
    """The power laws through the minima that count. Raises FitError where fewer than two do."""
    used = [k for k, one in enumerate(found.minima) if not one.reason]
    _check_used(found.minima, len(used))
    log_C = np.log10([found.minima[k].flops for k in used])
    degrees = 0 if found.noise is None else found.noise.degrees
    lines = [
        power_fit(
            log_C, np.log10([getattr(found.minima[k], what) for k in used]),
            None if found.draws is None else found.draws[side, used], degrees=degrees, num=num_draws, seed=seed,
        )
        for side, what in enumerate(("params", "tokens"))
    ]  # fmt: skip
    return IsoFlopFrontier(
        approach=f"2 (isoFLOP, {found.method})", params=lines[0], tokens=lines[1], minima=found.minima,
        method=found.method, curves=found.curves, noise=found.noise,
    )  # fmt: skip


def _check_used(minima: tuple[IsoFlopMinimum, ...], num_used: int) -> None:
    """Raises FitError where too few budgets have a minimum, or noise hides the curvature of too many."""
    reasons = "; ".join(f"{one.flops:.3g} FLOPs: {one.reason}" for one in minima if one.reason) or "none"
    if num_used < 2:
        raise FitError(
            f"a frontier needs at least 2 budgets with a minimum inside their sizes; here {num_used} of"
            f" {len(minima)} ({reasons}). Add smaller or larger models, or seeds, at those budgets"
        )
    num_flat = sum(one.reason == FLAT for one in minima)
    if num_flat > FLAT_BUDGETS * (num_flat + num_used):
        raise FitError(
            f"noise hides the curvature at {num_flat} of {num_flat + num_used} budgets ({reasons}); the others were"
            " chosen by chance, and their exponent would be biased. Add seeds, or sizes farther apart"
        )
