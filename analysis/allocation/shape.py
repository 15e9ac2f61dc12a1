"""The shape of isoFLOP curves about their minima, estimated from all budgets together.

About its minimum at u = ln N - ln N* = 0 a loss E + A/N^alpha + B/D^beta at fixed C = 6 N D is

    L = L* + c (u^2 + r u^3 + ...),  c ~ C^-(alpha beta / (alpha + beta)),  r = (beta - alpha) / 3,

(Taylor's expansion with alpha A/N*^alpha = beta B/D*^beta). So the curvature c moves slowly from budget to budget, and
r is the same at all of them. Both are estimated by empirical Bayes, in losses relative to the lowest of each budget:

1. s^2 is the variance of the residuals about one free parabola a budget; b_k its curvature, with variance s^2 g_k.
2. The prior of c_k is a straight line in log C (a constant below four budgets) with a scatter tau about it, which is
   the excess of the scatter of b_k over s^2 g_k, and at least 15 % of the curvature (30 % about a constant).
3. The posterior of c_k is b_k shrunk to the line by s^2 g_k / (s^2 g_k + tau^2) (Efron and Morris 1975): budgets of
   widely spaced sizes keep their own curvature, those of close sizes, where it is noise, share one.
4. r has the prior N(0, 0.1^2) (exponents that differ by 0.3): ridge regression of what the parabolas leave.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.allocation.curve import Curve

FloatArray = npt.NDArray[np.float64]

RATIO_PRIOR_STD = 0.1
"""Of r per unit of ln N."""
LEAST_SCATTER = {"line": 0.15, "constant": 0.3}
"""Of the curvatures about their trend, relative to their mean."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Second order of every budget's curve and the ratio of the third to it, per log10 N, with standard deviations."""

    budgets: tuple[int, ...]
    """Which budgets of the table these are."""
    bend: FloatArray
    """[K], in the loss's unit per squared log10 N."""
    own_std: FloatArray
    """[K]: standard deviation that is each budget's own."""
    shared: FloatArray
    """[K, P]: error of the trend in each curvature, as a matrix that takes P independent normal numbers to it."""
    ratio: float
    ratio_std: float
    degrees: float
    """Degrees of freedom that the shapes take from the residuals in all: 1 a budget and 1 where nothing is shared."""

    def of(self, budget: int, curve: Curve) -> Curve:
        """The curve of a budget with this shape; as it is where the budget has no part in it."""
        if budget not in self.budgets:
            return curve
        bend = float(self.bend[self.budgets.index(budget)])
        return curve.shaped(bend, self.ratio * bend)

    def draws(self, num: int, seed: int) -> dict[int, tuple[FloatArray, FloatArray]]:
        """Second and third order of every budget drawn from the posterior, each [B]."""
        random = np.random.default_rng([seed, 1])
        ratio_B = self.ratio + self.ratio_std * random.standard_normal(num)
        found = {}
        shared_BK = random.standard_normal((num, self.shared.shape[1])) @ self.shared.T
        for k, (budget, bend, std) in enumerate(zip(self.budgets, self.bend, self.own_std, strict=True)):
            bend_B = bend + shared_BK[:, k] + std * random.standard_normal(num)
            found[budget] = (bend_B, ratio_B * bend)
        return found


@dataclass(frozen=True, kw_only=True)
class _Orders:
    """Estimates of the second and third order terms from the runs of a budget, relative to its lowest loss."""

    bend: float
    bend_variance: float
    """In units of the noise's variance."""
    third: FloatArray
    """What is left of v^3 beside a parabola."""
    residual: FloatArray


def estimate_shape(curves: Sequence[Curve], flops_K: FloatArray, budgets: Sequence[int]) -> Shape | None:
    """The shape of K curves, whose budgets are numbered.

    None for a single curve, and where no residual degree of freedom is left to tell noise from curvature.
    """
    orders = [_orders(curve) for curve in curves]
    degrees = sum(len(one.residual) - 3 for one in orders)
    square = sum(float(one.residual @ one.residual) for one in orders)
    if degrees < 1 or len(curves) < 2:
        return None
    variance = max(square / degrees, 1e-20)
    lowest_K = np.array([curve.lowest for curve in curves])
    bend_K, std_K, shrink_K, shared_KP = _bends(orders, variance, np.log10(flops_K))
    prior = RATIO_PRIOR_STD * math.log(10.0)
    weight = sum(bend**2 * float(one.third @ one.third) for bend, one in zip(bend_K, orders, strict=True))
    product = sum(bend * float(one.third @ one.residual) for bend, one in zip(bend_K, orders, strict=True))
    precision = weight / variance + prior**-2
    ratio_degrees = weight / variance / precision
    own = float((1.0 - shrink_K).sum()) + shared_KP.shape[1] * float(shrink_K.mean())
    return Shape(
        budgets=tuple(budgets), bend=bend_K * lowest_K, own_std=std_K * lowest_K,
        shared=shared_KP * lowest_K[:, None], ratio=product / (variance * precision),
        ratio_std=precision**-0.5, degrees=own + ratio_degrees,
    )  # fmt: skip


def _orders(curve: Curve) -> _Orders:
    root = np.sqrt(curve.weight)
    powers = np.vander(curve.x - curve.x.mean(), 4) * root[:, None]
    loss = curve.loss * root / curve.lowest
    line = np.linalg.qr(powers[:, 2:])[0]
    second = powers[:, 1] - line @ (line.T @ powers[:, 1])
    parabola = np.linalg.qr(powers[:, 1:])[0]
    return _Orders(
        bend=float(second @ loss / (second @ second)), bend_variance=1.0 / float(second @ second),
        third=powers[:, 0] - parabola @ (parabola.T @ powers[:, 0]), residual=loss - parabola @ (parabola.T @ loss),
    )  # fmt: skip


def _bends(
    orders: Sequence[_Orders], variance: float, log_C: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Posterior means of the curvatures, their own standard deviations, how far each is shrunk, the trend's error."""
    own_K = np.array([one.bend for one in orders])
    noise_K = variance * np.array([one.bend_variance for one in orders])
    kind = "line" if len(orders) >= 4 else "constant"
    design = np.vander(log_C - log_C.mean(), 2 if kind == "line" else 1)
    first_K = design @ _trend(design, own_K, noise_K + (LEAST_SCATTER[kind] * own_K.mean()) ** 2)[0]
    left = max(len(orders) - design.shape[1], 1)
    excess = float(((own_K - first_K) ** 2).sum()) / left - float(noise_K.mean())
    scatter = max(excess, (LEAST_SCATTER[kind] * float(first_K.mean())) ** 2)
    trend_P, covariance = _trend(design, own_K, noise_K + scatter)
    shrink_K = noise_K / (noise_K + scatter)
    mean_K = (1.0 - shrink_K) * own_K + shrink_K * (design @ trend_P)
    values, vectors = np.linalg.eigh(covariance)
    shared_KP = shrink_K[:, None] * (design @ (vectors * np.sqrt(np.maximum(values, 0.0))))
    return mean_K, np.sqrt((1.0 - shrink_K) * noise_K), shrink_K, shared_KP


def _trend(design: FloatArray, value_K: FloatArray, variance_K: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Coefficients of the weighted least-squares trend, and their covariance."""
    covariance = np.asarray(np.linalg.pinv(design.T @ (design / variance_K[:, None])), dtype=np.float64)
    return covariance @ (design.T @ (value_K / variance_K)), covariance
