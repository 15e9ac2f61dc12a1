"""The minimum of the isoFLOP curve at each FLOPs budget, with draws of it under the noise of the runs.

A minimum outside the sizes tried, or a lowest loss at an edge of them, does not count; nor does, for the method
`window`, a curvature that the noise cannot tell from zero. Each is kept with its reason. Intervals come from a
parametric bootstrap of the runs' noise about the curves (`analysis.allocation.curve_noise`).

Shapes: B draws, K budgets, N runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from analysis import formatting
from analysis.allocation.curve import LEAST_SIZES, Curve, Method, fit_curve
from analysis.allocation.curve_noise import CurveNoise, CurveRuns, curve_noise, draw_losses
from analysis.allocation.frontier import IsoFlopMinimum, percentiles
from analysis.allocation.shape import Shape, estimate_shape
from analysis.allocation.token_axis import TokenAxis, token_axis
from analysis.errors import FitError
from analysis.interval import ConfidenceInterval

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

DEFAULT_METHOD: Method = "window"
SAME_BUDGET = 0.1
"""Runs whose ln C differ by less than this from the next one's are of one budget."""
NUM_DRAWS = 2000
FLAT = "its curvature cannot be told from zero at the noise of its runs"
FLAT_SHARE = 0.025
"""A curve that bends downwards in a larger share of the draws has a curvature that noise cannot tell from zero."""


@dataclass(frozen=True, kw_only=True)
class IsoFlopMinima:
    """The minima of all K budgets, by rising FLOPs."""

    method: Method
    minima: tuple[IsoFlopMinimum, ...]
    curves: tuple[Curve | None, ...] = field(repr=False)
    """Loss against log10 N of each budget; None where it has too few sizes."""
    noise: CurveNoise | None
    """Of the runs about the curves; None where nothing is left to estimate it from."""
    draws: FloatArray | None = field(repr=False)
    """log10 of N* and D* [2, K, B]; not-a-number where a budget has no minimum in a draw. None without noise."""


def isoflop_minima(
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
) -> IsoFlopMinima:
    """The minimum of every budget; arguments as of `isoflop_frontier`. Raises FitError for an unknown method."""
    if method not in LEAST_SIZES:
        raise FitError(f"there is no isoFLOP method {method!r}; there are: {', '.join(LEAST_SIZES)}")
    weight_N = np.ones(len(loss_N)) if weight_N is None else weight_N / weight_N.mean()
    cluster_N = np.arange(len(loss_N)) if cluster_N is None else cluster_N
    groups = budgets(flops_N)
    flops_K = np.array([float(np.exp(np.log(flops_N[rows]).mean())) for rows in groups])
    log_N, log_D = np.log10(params_N), np.log10(tokens_N)
    runs = [_fitted(log_N, loss_N, weight_N, cluster_N, rows, method) for rows in groups]
    shape = None
    if method == "window":
        several = [k for k, one in enumerate(runs) if one is not None]
        shape = estimate_shape([one.curve for one in runs if one is not None], flops_K[several], several)
        runs = [one and replace(one, curve=shape.of(k, one.curve)) for k, one in enumerate(runs)] if shape else runs
    axes = [
        None if one is None else token_axis(one.curve, log_D[one.rows], log_D[rows], loss_N[rows], weight_N[rows])
        for one, rows in zip(runs, groups, strict=True)
    ]
    minima = [
        _minimum(float(flops), one, axis, method, log_N[rows], log_D[rows], loss_N[rows])
        for flops, one, axis, rows in zip(flops_K, runs, axes, groups, strict=True)
    ]
    return _with_noise(minima, runs, axes, shape, method, num_draws, seed)


def _fitted(
    log_N: FloatArray,
    loss_N: FloatArray,
    weight_N: FloatArray,
    cluster_N: npt.NDArray[np.int64],
    rows: IntArray,
    method: Method,
) -> CurveRuns | None:
    """The curve of one budget, which has these rows; None where it has too few sizes."""
    if len(np.unique(log_N[rows])) < LEAST_SIZES[method]:
        return None
    curve = fit_curve(log_N[rows], loss_N[rows], weight_N[rows], method)
    used = rows[curve.rows]
    size = np.unique(curve.x, return_inverse=True)[1]
    return CurveRuns(curve=curve, rows=used, setting=size, cluster=cluster_N[used])


def budgets(flops_N: FloatArray) -> list[IntArray]:
    """The runs of each FLOPs budget, by rising FLOPs."""
    order = np.argsort(flops_N, kind="stable")
    breaks = np.flatnonzero(np.diff(np.log(flops_N[order])) > SAME_BUDGET) + 1
    return [np.asarray(part, dtype=np.intp) for part in np.split(order, breaks)]


def _minimum(
    flops: float,
    runs: CurveRuns | None,
    axis: TokenAxis | None,
    method: Method,
    log_N: FloatArray,
    log_D: FloatArray,
    loss: FloatArray,
) -> IsoFlopMinimum:
    if runs is None or axis is None:
        best, num = int(np.argmin(loss)), len(np.unique(log_N))
        return IsoFlopMinimum(
            flops=flops, params=float(10.0 ** log_N[best]), tokens=float(10.0 ** log_D[best]),
            loss=float(loss[best]), num_points=len(loss),
            reason=f"it has {formatting.counted(num, 'size')}, and the method {method} needs {LEAST_SIZES[method]}",
        )  # fmt: skip
    curve = runs.curve
    return IsoFlopMinimum(
        flops=flops, params=_power_of_ten(curve.minimum), tokens=_power_of_ten(axis.minimum(curve)),
        loss=curve.lowest, num_points=len(curve.rows), reason=curve.reason or axis.reason,
    )  # fmt: skip


def _power_of_ten(exponent: float) -> float:
    """10^exponent; infinite where a curve is so flat that its minimum is beyond the range of floats."""
    with np.errstate(over="ignore"):
        return float(np.power(10.0, exponent))


def _with_noise(
    minima: list[IsoFlopMinimum],
    runs: list[CurveRuns | None],
    axes: list[TokenAxis | None],
    shape: Shape | None,
    method: Method,
    num_draws: int,
    seed: int,
) -> IsoFlopMinima:
    """The minima with their intervals, from draws of the noise about the curves of those that count."""
    fitted = [k for k, one in enumerate(runs) if one is not None and not minima[k].reason]
    chosen = [one for k in fitted if (one := runs[k]) is not None]
    shared = 0.0 if shape is None else shape.degrees - len(shape.bend)
    noise = curve_noise(_smooth(chosen), shared_degrees=shared) if chosen else None
    draws = None
    if noise is not None and num_draws:
        chosen_axes = [axis for k in fitted if (axis := axes[k]) is not None]
        draws = np.full((2, len(minima), num_draws), np.nan)
        draws[:, fitted] = _draws(fitted, chosen, chosen_axes, noise, shape, num_draws, seed)
        for k in fitted:
            minima[k] = _with_intervals(minima[k], draws[0, k], draws[1, k], method)
    curves = tuple(None if one is None else one.curve for one in runs)
    return IsoFlopMinima(method=method, minima=tuple(minima), curves=curves, noise=noise, draws=draws)


def _draws(
    fitted: list[int],
    runs: list[CurveRuns],
    axes: list[TokenAxis],
    noise: CurveNoise,
    shape: Shape | None,
    num: int,
    seed: int,
) -> FloatArray:
    """log10 of N* and D* of every budget under draws of the noise and of the shape, [2, K, B]."""
    losses = draw_losses(runs, noise, num=num, seed=seed)
    shapes = None if shape is None else shape.draws(num, seed)
    params, tokens = [], []
    for k, one, axis, losses_BN in zip(fitted, runs, axes, losses, strict=True):
        if shapes is None or k not in shapes or one.curve.bend is None:
            minima_B = one.curve.minima_of(losses_BN)
        else:
            minima_B = one.curve.minima_of(losses_BN, *shapes[k])
        params.append(minima_B)
        tokens.append(axis.minima_of(minima_B, losses_BN))
    return np.stack([np.stack(params), np.stack(tokens)])


def _smooth(runs: list[CurveRuns]) -> list[CurveRuns]:
    """The curves that the noise is measured about: a window in the place of an interpolation, which leaves none."""
    smooth = []
    for one in runs:
        if one.curve.method == "akima":
            curve = fit_curve(one.curve.x, one.curve.loss, one.curve.weight, "window")
            at = curve.rows
            one = replace(one, curve=curve, rows=one.rows[at], setting=one.setting[at], cluster=one.cluster[at])
        smooth.append(one)
    return smooth


def _with_intervals(
    minimum: IsoFlopMinimum, params_B: FloatArray, tokens_B: FloatArray, method: Method
) -> IsoFlopMinimum:
    """The minimum with its intervals, or with the reason why noise hides it."""
    lost = float(np.isnan(params_B).mean())
    if lost > FLAT_SHARE:
        reason = FLAT if method == "window" else ""
        return replace(minimum, reason=reason)
    params, tokens = (percentiles(values_B) for values_B in (params_B, tokens_B))
    return replace(
        minimum,
        params_ci95=params and ConfidenceInterval(*(10.0**end for end in params)),
        tokens_ci95=tokens and ConfidenceInterval(*(10.0**end for end in tokens)),
    )
