"""One isoFLOP curve: loss against log10 of the model size at one FLOPs budget, and where it is lowest.

Three methods. `window` (the default) fits a parabola to the runs within a factor of six of the minimum, at least four
sizes, with a third-order term and curvatures for which the budgets inform each other (`analysis.allocation.shape`).
`parabola` fits all runs of the budget (Hoffmann et al. 2022, section 3.2). `akima` interpolates the mean loss of each
size (Akima 1970; Porian et al. 2024).

A parabola is the second-order Taylor polynomial of the loss about its minimum. On sizes far from the minimum the third
and fourth order matter: where the grid of sizes drifts against the optimum from budget to budget they bias the
exponent. The window removes that bias and keeps more runs than an interpolation, whose minimum follows the noise of
single runs (docs/analysis.md has the numbers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.interpolate import Akima1DInterpolator

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
Method = Literal["window", "parabola", "akima"]

LEAST_SIZES: dict[str, int] = {"window": 3, "parabola": 3, "akima": 5}
"""Different model sizes that a budget must have."""
WINDOW_FACTOR = 6.0
"""Runs of at most so many times more or fewer parameters than the minimum are in its window."""
WINDOW_SIZES = 4
"""The window widens until it holds so many sizes, if the budget has them."""
_FINE = 801
_ROUNDS = 10


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A curve of loss in x = log10 of the model size (or of the tokens), fitted to runs of one budget."""

    method: Method
    rows: IntArray
    """Which runs of the budget the curve is fitted to, by position."""
    x: FloatArray = field(repr=False)
    """log10 of the size of these runs."""
    loss: FloatArray = field(repr=False)
    weight: FloatArray = field(repr=False)
    minimum: float
    """x where the curve is lowest."""
    lowest: float
    """Loss there."""
    reason: str
    """Why this minimum does not count; '' where it does."""
    bend: float | None = None
    """Second-order coefficient about the mean x, held fixed; None where the runs of this budget alone give it."""
    cubic: float = 0.0
    """Third-order coefficient about the mean x, held fixed."""

    @property
    def num_parameters(self) -> int:
        """Degrees of freedom that the curve takes from its runs."""
        return len(np.unique(self.x)) if self.method == "akima" else 3

    def at(self, x: FloatArray) -> FloatArray:
        """The curve's loss at log10 sizes `x`, any shape; not-a-number outside the sizes that Akima's curve joins."""
        if self.method == "akima":
            return _akima(self.x, self.loss[:, None], self.weight, x)[:, 0]
        bend, slope, height = self._coefficients(self.loss[None, :], self.bend, self.cubic)
        coefficients = (self.cubic, float(bend[0]), float(slope[0]), float(height[0]))
        values: FloatArray = np.polyval(coefficients, x - self.x.mean())
        return values

    def minima_of(
        self, losses_BN: FloatArray, bend_B: FloatArray | None = None, cubic_B: FloatArray | float = 0.0
    ) -> FloatArray:
        """The minimum under other losses of the same runs (and other fixed coefficients), [B].

        Not-a-number where there is none. The window is not chosen again: it belongs to the curve.
        """
        if self.method == "akima":
            fine = np.linspace(self.x.min(), self.x.max(), _FINE)
            lowest_B = _akima(self.x, losses_BN.T, self.weight, fine).argmin(axis=0)
            return np.where((lowest_B > 0) & (lowest_B < _FINE - 1), fine[lowest_B], np.nan)
        bend, slope_B, _ = self._coefficients(losses_BN, bend_B, cubic_B)
        with np.errstate(all="ignore"):
            # The root of slope + 2 bend v + 3 cubic v^2 at which the second derivative is positive.
            root_B = np.sqrt(bend**2 - 3.0 * cubic_B * slope_B)
            minima_B: FloatArray = np.where(bend > 0, self.x.mean() - slope_B / (bend + root_B), np.nan)
        return minima_B

    def shaped(self, bend: float, cubic: float) -> Curve:
        """The same runs with these higher orders."""
        minimum = float(self.minima_of(self.loss[None, :], np.array([bend]), np.array([cubic]))[0])
        if math.isnan(minimum):
            return replace(self, reason=self.reason or "its losses do not bend upwards")
        reason = ""
        if not self.x.min() < minimum < self.x.max():
            reason = (
                f"its minimum lies {'below the smallest' if minimum <= self.x.min() else 'above the largest'} tried"
            )
        curve = replace(self, bend=bend, cubic=cubic, minimum=minimum, reason=reason)
        return replace(curve, lowest=float(curve.at(np.array([minimum]))[0]))

    def _coefficients(
        self, losses_BN: FloatArray, bend: FloatArray | float | None, cubic: FloatArray | float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Second, first and zeroth order about the mean x, each [B]: all three fitted, or the last two."""
        offset = self.x - self.x.mean()
        higher = np.asarray(cubic)[..., None] * offset**3
        if bend is not None:
            higher = higher + np.asarray(bend)[..., None] * offset**2
        solve = _projection(self.x, self.weight, 3 if bend is None else 2)[1]
        orders = solve @ (losses_BN - higher).T
        if bend is None:
            return orders[0], orders[1], orders[2]
        return np.broadcast_to(np.asarray(bend, dtype=np.float64), orders[0].shape), orders[0], orders[1]


def fit_curve(x: FloatArray, loss: FloatArray, weight: FloatArray, method: Method) -> Curve:
    """The curve through the runs of one budget.

    Args:
        x: log10 of the model size of each run, [N]; at least `LEAST_SIZES[method]` different sizes.
        loss: of each run, [N].
        weight: of each run, [N]; inversely proportional to the variance of its loss.
        method: 'window', 'parabola' or 'akima'.
    """
    rows = np.arange(len(x))
    if method == "akima":
        fine = np.linspace(x.min(), x.max(), _FINE)
        values = _akima(x, loss[:, None], weight, fine)[:, 0]
        at = int(values.argmin())
        reason = "" if 0 < at < _FINE - 1 else f"its lowest loss is at the {'smallest' if at == 0 else 'largest'} tried"
        minimum, lowest = float(fine[at]), float(values[at])
    else:
        if method == "window":
            rows = _window(x, loss, weight)
        minimum, lowest, reason = _vertex(x[rows], loss[rows], weight[rows])
        reason = reason or _edge(x, loss, weight, minimum)
    return Curve(
        method=method, rows=rows, x=x[rows], loss=loss[rows], weight=weight[rows], minimum=minimum, lowest=lowest,
        reason=reason,
    )  # fmt: skip


def tokens_curve(like: Curve, x: FloatArray, loss: FloatArray, weight: FloatArray) -> Curve:
    """The curve in log10 of the tokens, on the same runs; of the methods `parabola` and `akima`."""
    curve = fit_curve(x[like.rows], loss[like.rows], weight[like.rows], like.method)
    return replace(curve, rows=like.rows, reason=like.reason or curve.reason)


def size_means(x: FloatArray, loss: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The different sizes, rising, and the weighted mean loss of each."""
    sizes, which = np.unique(x, return_inverse=True)
    total = np.bincount(which, weights=weight)
    means: FloatArray = np.bincount(which, weights=weight * loss) / total
    return sizes, means


def _window(x: FloatArray, loss: FloatArray, weight: FloatArray) -> IntArray:
    """The runs within a factor of `WINDOW_FACTOR` of the minimum of the parabola through them.

    Starts at the size of the lowest mean loss, and moves to the vertex until the window stays.
    """
    sizes, means = size_means(x, loss, weight)
    centre, seen = float(sizes[means.argmin()]), set[bytes]()
    inside = np.ones(len(sizes), dtype=bool)
    for _ in range(_ROUNDS):
        distance = np.abs(sizes - centre)
        inside = distance <= math.log10(WINDOW_FACTOR) + 1e-9
        if inside.sum() < WINDOW_SIZES:
            inside = np.isin(np.arange(len(sizes)), np.argsort(distance, kind="stable")[:WINDOW_SIZES])
        if inside.tobytes() in seen:
            break
        seen.add(inside.tobytes())
        rows = np.isin(x, sizes[inside])
        bend, vertex, _ = _parabola(x[rows], loss[rows], weight[rows])
        if not bend > 0:
            break
        centre = float(np.clip(vertex, sizes[0], sizes[-1]))
    return np.flatnonzero(np.isin(x, sizes[inside]))


def _vertex(x: FloatArray, loss: FloatArray, weight: FloatArray) -> tuple[float, float, str]:
    """The vertex of the parabola and its loss, and why there is none."""
    bend, vertex, lowest = _parabola(x, loss, weight)
    if bend > 0:
        return vertex, lowest, ""
    sizes, means = size_means(x, loss, weight)
    return float(sizes[means.argmin()]), float(means.min()), "its losses do not bend upwards"


def _edge(x: FloatArray, loss: FloatArray, weight: FloatArray, minimum: float) -> str:
    """Why a minimum at the edge of the sizes tried does not count."""
    sizes, means = size_means(x, loss, weight)
    if not sizes[0] < minimum < sizes[-1]:
        return f"its minimum lies {'below the smallest' if minimum <= sizes[0] else 'above the largest'} tried"
    lowest = int(means.argmin())
    if lowest in (0, len(sizes) - 1):
        return f"its lowest loss is at the {'smallest' if lowest == 0 else 'largest'} tried"
    return ""


def _parabola(x: FloatArray, loss: FloatArray, weight: FloatArray) -> tuple[float, float, float]:
    """Second-order coefficient, vertex and loss at the vertex."""
    centre, solve = _projection(x, weight)
    bend, slope, height = (float(value) for value in solve @ loss)
    if bend == 0:
        return bend, centre, height
    return bend, centre - slope / (2.0 * bend), height - slope**2 / (4.0 * bend)


def _projection(x: FloatArray, weight: FloatArray, num: int = 3) -> tuple[float, FloatArray]:
    """The mean x, and the matrix [num, N] that takes losses to the weighted least-squares polynomial about it."""
    centre, root = float(x.mean()), np.sqrt(weight)
    design = np.vander(x - centre, num) * root[:, None]
    return centre, np.asarray(np.linalg.pinv(design) * root, dtype=np.float64)


def _akima(x: FloatArray, losses_NB: FloatArray, weight: FloatArray, at: FloatArray) -> FloatArray:
    """Akima's curve through the mean loss of each size, for B sets of losses: [len(at), B]."""
    sizes, which = np.unique(x, return_inverse=True)
    share = np.zeros((len(sizes), len(x)))
    share[which, np.arange(len(x))] = weight
    means = share @ losses_NB / share.sum(axis=1, keepdims=True)
    values: FloatArray = Akima1DInterpolator(sizes, means)(at)
    return values
