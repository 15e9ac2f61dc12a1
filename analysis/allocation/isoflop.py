"""Approach 2 (Hoffmann et al. 2022): the lowest loss at each number of FLOPs, and a power law through these minima.

At each budget the loss is a parabola in lg N (another in lg D), or Akima's interpolant (Akima 1970), and its minimum is
one point of the frontier. Decides the rules by which a minimum counts: the curve must bend upwards, and its minimum and
the lowest loss itself must lie inside the sizes tried; at an edge they say only where the best is not. What does not
count is kept with its reason. N* = k C^a and D* = k' C^b are then straight lines in logarithms, each by least squares
over the minima, so a + b is 1 only where C = 6 N D holds exactly.

The parabola is exact in the exponents for a law symmetric about its optimum, and biased in the intercept for any other
(the tests hold it to the published bias). Intervals: points are resampled within their budget.
Refuses fewer than two budgets with a minimum inside.

Shapes: B replicates, K budgets, N points of one budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.interpolate import Akima1DInterpolator

from analysis.errors import FitError
from analysis.interval import ConfidenceInterval

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
Method = Literal["parabola", "akima"]

SAME_BUDGET = 0.1
"""Runs whose ln C differ by less than this from the next one's are of one budget."""
LEAST_SIZES = {"parabola": 3, "akima": 5}
_FINE = 2001


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """The lowest loss at one number of FLOPs."""

    flops: float
    params: float
    tokens: float
    loss: float
    num_points: int
    reason: str
    """Why it is in no frontier; '' where it is."""


@dataclass(frozen=True, kw_only=True)
class PowerFit:
    """value = 10^intercept * C^exponent."""

    exponent: float
    exponent_ci95: ConfidenceInterval | None
    intercept: float

    def at(self, flops: float) -> float:
        return float(10.0 ** (self.intercept + self.exponent * np.log10(flops)))


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """N*(C) and D*(C) by one approach."""

    approach: str
    params: PowerFit
    tokens: PowerFit
    minima: tuple[Minimum, ...]
    """All budgets or envelope points, those that do not count among them."""

    @property
    def used(self) -> tuple[Minimum, ...]:
        return tuple(one for one in self.minima if not one.reason)


def isoflop(
    params_N: FloatArray,
    tokens_N: FloatArray,
    flops_N: FloatArray,
    loss_N: FloatArray,
    *,
    method: Method = "parabola",
    num_replicates: int = 0,
    seed: int = 0,
) -> Frontier:
    """The frontier by isoFLOP curves. Raises FitError."""
    if method not in LEAST_SIZES:
        raise FitError(f"there is no isoFLOP method {method!r}; there are: {', '.join(LEAST_SIZES)}")
    groups = budgets(flops_N)
    minima = tuple(_minimum(params_N[at], tokens_N[at], flops_N[at], loss_N[at], method) for at in groups)
    used = [k for k, one in enumerate(minima) if not one.reason]
    if len(used) < 2:
        reasons = "; ".join(f"{one.flops:.3g} FLOPs: {one.reason}" for one in minima if one.reason) or "none"
        raise FitError(
            f"a frontier needs at least 2 budgets with a minimum inside their sizes; {len(used)} of {len(minima)} have"
            f" one ({reasons}). Add smaller or larger models at those budgets"
        )
    log_C = np.log10([minima[k].flops for k in used])
    draws = None
    if num_replicates:
        random = np.random.default_rng(seed)
        drawn = [
            _drawn(params_N[groups[k]], tokens_N[groups[k]], loss_N[groups[k]], method, num_replicates, random)
            for k in used
        ]
        draws = np.stack(drawn)
    params = power_fit(log_C, np.log10([minima[k].params for k in used]), None if draws is None else draws[:, 0])
    tokens = power_fit(log_C, np.log10([minima[k].tokens for k in used]), None if draws is None else draws[:, 1])
    return Frontier(approach=f"2 (isoFLOP, {method})", params=params, tokens=tokens, minima=minima)


def budgets(flops_N: FloatArray) -> list[IntArray]:
    """The points of each budget, by rising FLOPs."""
    order = np.argsort(flops_N, kind="stable")
    breaks = np.flatnonzero(np.diff(np.log(flops_N[order])) > SAME_BUDGET) + 1
    return [np.asarray(part, dtype=np.intp) for part in np.split(order, breaks)]


def power_fit(log_C: FloatArray, log_value: FloatArray, draws_KB: FloatArray | None) -> PowerFit:
    """A straight line in lg-lg through the minima; draws that have no minimum at some budget leave that one out."""
    slope, intercept = np.polyfit(log_C, log_value, 1)
    interval = None
    if draws_KB is not None:
        slopes = _slopes(log_C, draws_KB)
        slopes = slopes[np.isfinite(slopes)]
        if len(slopes) > 1:
            lower, upper = np.quantile(slopes, [0.025, 0.975])
            interval = ConfidenceInterval(float(lower), float(upper))
    return PowerFit(exponent=float(slope), exponent_ci95=interval, intercept=float(intercept))


def _slopes(log_C: FloatArray, draws_KB: FloatArray) -> FloatArray:
    there = np.isfinite(draws_KB)
    weight = there.astype(np.float64)
    x, y = log_C[:, None], np.where(there, draws_KB, 0.0)
    with np.errstate(all="ignore"):
        total = weight.sum(axis=0)
        mean_x, mean_y = (weight * x).sum(axis=0) / total, y.sum(axis=0) / total
        spread = (weight * (x - mean_x) ** 2).sum(axis=0)
        slopes: FloatArray = (weight * (x - mean_x) * (y - mean_y)).sum(axis=0) / np.where(spread > 0, spread, np.nan)
    return slopes


def _minimum(params: FloatArray, tokens: FloatArray, flops: FloatArray, loss: FloatArray, method: Method) -> Minimum:
    budget = float(np.exp(np.log(flops).mean()))
    log_N, log_D, num = np.log10(params), np.log10(tokens), len(np.unique(params))
    if num < LEAST_SIZES[method]:
        best = int(np.argmin(loss))
        reason = f"{num} sizes, and a {method} needs {LEAST_SIZES[method]}"
        return Minimum(flops=budget, params=float(params[best]), tokens=float(tokens[best]), loss=float(loss[best]),
                       num_points=len(loss), reason=reason)  # fmt: skip
    at_N, least, why = _lowest(log_N, loss, method)
    at_D, _, why_tokens = _lowest(log_D, loss, method)
    return Minimum(
        flops=budget,
        params=10.0**at_N,
        tokens=10.0**at_D,
        loss=least,
        num_points=len(loss),
        reason=why or why_tokens,
    )


def _lowest(x_N: FloatArray, loss_N: FloatArray, method: Method) -> tuple[float, float, str]:
    """Where the curve is lowest, its loss there, and why that does not count ('' where it does)."""
    lowest = int(np.argmin(loss_N))
    if method == "akima":
        x = np.unique(x_N)
        mean = np.array([loss_N[x_N == one].mean() for one in x])
        fine = np.linspace(x[0], x[-1], _FINE)
        curve = Akima1DInterpolator(x, mean)(fine)
        at = int(np.argmin(curve))
        if at in (0, _FINE - 1):
            return (
                float(fine[at]),
                float(curve[at]),
                f"its lowest loss is at the {'smallest' if at == 0 else 'largest'}",
            )
        return float(fine[at]), float(curve[at]), ""
    middle = x_N.mean()
    bend, slope, height = np.polyfit(x_N - middle, loss_N, 2)
    if not bend > 0:
        return float(x_N[lowest]), float(loss_N[lowest]), "its losses do not bend upwards"
    offset = -slope / (2.0 * bend)
    vertex, least = float(middle + offset), float(height + slope * offset / 2.0)
    if not x_N.min() < vertex < x_N.max():
        side = "below the smallest" if vertex <= x_N.min() else "above the largest"
        return vertex, least, f"its minimum lies {side} tried"
    if x_N[lowest] in (x_N.min(), x_N.max()):
        side = "smallest" if x_N[lowest] == x_N.min() else "largest"
        return vertex, least, f"its lowest loss is at the {side} tried"
    return vertex, least, ""


def _drawn(
    params: FloatArray, tokens: FloatArray, loss: FloatArray, method: Method, num: int, random: np.random.Generator
) -> FloatArray:
    """lg N* and lg D* [2, B] of resampled points; not a number where a resample has no minimum inside."""
    size = len(loss)
    columns = (np.log10(params), np.log10(tokens))
    if method == "akima":
        found = np.full((2, num), np.nan)
        for b in range(num):
            rows = random.integers(0, size, size)
            if len(np.unique(params[rows])) >= LEAST_SIZES[method]:
                for side, x_N in enumerate(columns):
                    at, _, reason = _lowest(x_N[rows], loss[rows], method)
                    found[side, b] = at if not reason else np.nan
        return found
    counts_BN = random.multinomial(size, np.full(size, 1.0 / size), size=num).astype(np.float64)
    return np.stack([_vertices(x_N, loss, counts_BN) for x_N in columns])


def _vertices(x_N: FloatArray, loss_N: FloatArray, counts_BN: FloatArray) -> FloatArray:
    """The vertex of each weighted parabola [B], by its normal equations on a centred and scaled axis."""
    middle, scale = x_N.mean(), max(float(np.ptp(x_N)), 1e-300)
    powers_NP = np.vander((x_N - middle) / scale, 3)
    gram_BPP = np.einsum("bn,np,nq->bpq", counts_BN, powers_NP, powers_NP)
    right_BP = np.einsum("bn,np,n->bp", counts_BN, powers_NP, loss_N)
    regular_B = (counts_BN > 0).sum(axis=1) > 2
    regular_B &= np.linalg.cond(gram_BPP) < 1e12
    solved_BP = np.full_like(right_BP, np.nan)
    solved_BP[regular_B] = np.linalg.solve(gram_BPP[regular_B], right_BP[regular_B][:, :, None])[:, :, 0]
    with np.errstate(all="ignore"):
        vertex_B = middle - scale * solved_BP[:, 1] / (2.0 * solved_BP[:, 0])
        inside_B = (solved_BP[:, 0] > 0) & (vertex_B > x_N.min()) & (vertex_B < x_N.max())
    return np.where(inside_B, vertex_B, np.nan)
