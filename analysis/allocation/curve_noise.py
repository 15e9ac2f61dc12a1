"""The noise of runs about their isoFLOP curves, and draws of it: what the intervals of the minima rest on.

The noise is relative to the loss (loss = curve * (1 + noise)), so that budgets of different loss share one. It is
pooled over the budgets: residuals of N runs about curves of P parameters in all leave N - P degrees of freedom. Where
sizes have replicates (other seeds), a lack-of-fit F test at 5 % compares the scatter of the sizes' means about the
curves with the scatter of the replicates; if it is larger the curves misfit, and that scatter is taken. Budgets whose
noise differs by more than chance (Bartlett 1937, at 1 %) keep each their own. Runs of one cluster (checkpoints of one
run) share a part of their noise, which is estimated from the products of residuals within clusters.

Shapes: B draws, K budgets, N runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, fdtri

from analysis.allocation.curve import Curve

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

LACK_OF_FIT_AT = 0.05
UNEVEN_AT = 0.01
_ROUNDING = 1e-10
"""Relative residuals below this are those of exact numbers, not of runs."""


@dataclass(frozen=True, kw_only=True)
class CurveNoise:
    """[K]: standard deviation of one run's loss, relative to the loss, about the curve of its budget."""

    std: FloatArray
    budget_degrees: IntArray
    """[K]: degrees of freedom of each budget's; all equal where one noise is pooled."""
    pooled: bool
    shared: float
    """Share of the variance that the runs of one cluster have in common, 0 to 1."""
    source: str

    @property
    def degrees(self) -> int:
        """Degrees of freedom in all, or of the least known budget where they are not pooled."""
        return int(self.budget_degrees.min())


@dataclass(frozen=True, kw_only=True)
class CurveRuns:
    """The runs of one curve: which rows of the table, and which of them are replicates and of one cluster."""

    curve: Curve
    rows: IntArray
    setting: IntArray
    cluster: IntArray


def curve_noise(runs: Sequence[CurveRuns], *, shared_degrees: float = 0.0) -> CurveNoise | None:
    """The noise about the curves of K budgets; None where the curves and the replicates leave no residual.

    `shared_degrees` are degrees of freedom that parameters shared by all curves take.
    """
    residuals = [(one.curve.loss / one.curve.at(one.curve.x) - 1.0) * np.sqrt(one.curve.weight) for one in runs]
    squares = np.array([float((residual**2).sum()) for residual in residuals])
    degrees = np.array([len(one.rows) - one.curve.num_parameters for one in runs])
    total = int(degrees.sum()) - round(shared_degrees)
    if total <= 0 or squares.sum() / total < _ROUNDING**2:
        return None
    means, means_degrees, within, within_degrees = _parts(runs, residuals, degrees)
    noise = _pooled(float(squares.sum()), total, len(runs), "residuals about the curves")
    if within_degrees and means_degrees and within > 0:
        ratio = (means / means_degrees) / (within / within_degrees)
        if ratio > float(fdtri(means_degrees, within_degrees, 1.0 - LACK_OF_FIT_AT)):
            noise = _pooled(means, means_degrees, len(runs), "misfit of the curves, larger than the seeds' noise")
    if noise.source.startswith("residuals") and _uneven(squares, degrees):
        noise = replace(
            noise, std=np.sqrt(squares / degrees), budget_degrees=degrees, pooled=False,
            source="residuals about each budget's own curve (the noise differs between budgets)",
        )  # fmt: skip
    return _clustered(runs, residuals, noise)


def _pooled(square: float, degrees: int, num: int, source: str) -> CurveNoise:
    std = float(np.sqrt(square / degrees))
    return CurveNoise(
        std=np.full(num, std), budget_degrees=np.full(num, degrees), pooled=True, shared=0.0, source=source
    )  # fmt: skip


def _parts(
    runs: Sequence[CurveRuns], residuals: Sequence[FloatArray], degrees: IntArray
) -> tuple[float, int, float, int]:
    """Sums of squares and degrees of freedom: of the settings' means about the curves, and of runs within settings."""
    total = within = 0.0
    num_within = 0
    for one, residual in zip(runs, residuals, strict=True):
        _, which = np.unique(one.setting, return_inverse=True)
        counts = np.bincount(which)
        means = np.bincount(which, weights=residual) / counts
        total += float((residual**2).sum())
        within += float(((residual - means[which]) ** 2).sum())
        num_within += len(residual) - len(counts)
    return total - within, int(degrees.sum()) - num_within, within, num_within


def _uneven(squares: FloatArray, degrees: IntArray) -> bool:
    """Bartlett's test of equal variances."""
    if len(squares) < 2 or degrees.min() < 2 or squares.min() <= 0:
        return False
    total = degrees.sum()
    statistic = total * np.log(squares.sum() / total) - float((degrees * np.log(squares / degrees)).sum())
    correction = 1.0 + (float((1.0 / degrees).sum()) - 1.0 / total) / (3.0 * (len(squares) - 1))
    return float(chdtrc(len(squares) - 1, statistic / correction)) < UNEVEN_AT


def _clustered(runs: Sequence[CurveRuns], residuals: Sequence[FloatArray], noise: CurveNoise) -> CurveNoise:
    """The share of the noise that runs of one cluster have in common, and the degrees of freedom that leaves.

    The share is the mean product of residuals of two different runs of one cluster over their variance. With G clusters
    no more than G - 1 degrees of freedom are left.
    """
    cluster = np.concatenate([one.cluster for one in runs])
    residual = np.concatenate(residuals)
    _, which = np.unique(cluster, return_inverse=True)
    counts = np.bincount(which)
    num_pairs = float((counts * (counts - 1)).sum())
    if num_pairs == 0:
        return noise
    sums = np.bincount(which, weights=residual)
    products = float((sums**2).sum() - (residual**2).sum())
    share = float(np.clip(products / num_pairs / (residual**2).mean(), 0.0, 1.0))
    limit = max(len(counts) - 1, 1)
    return replace(noise, shared=share, budget_degrees=np.minimum(noise.budget_degrees, limit))


def draw_losses(runs: Sequence[CurveRuns], noise: CurveNoise, *, num: int, seed: int) -> list[FloatArray]:
    """Losses [B, N] of each budget's runs under `num` draws of the noise about its curve (a parametric bootstrap).

    The standard deviation is drawn too, as std * sqrt(degrees / chi-square), so that percentiles of what follows from
    the draws are intervals of Student's t.
    """
    random = np.random.default_rng(seed)
    rows = np.concatenate([one.rows for one in runs])
    _, which = np.unique(np.concatenate([one.cluster for one in runs]), return_inverse=True)
    unit_BN = random.standard_normal((num, len(rows)))
    if noise.shared > 0:
        common_BN = random.standard_normal((num, int(which.max()) + 1))[:, which]
        unit_BN = np.sqrt(noise.shared) * common_BN + np.sqrt(1.0 - noise.shared) * unit_BN
    scale_B = np.sqrt(noise.degrees / random.chisquare(noise.degrees, size=num))
    losses, begin = [], 0
    for k, one in enumerate(runs):
        if not noise.pooled:
            degrees = int(noise.budget_degrees[k])
            scale_B = np.sqrt(degrees / random.chisquare(degrees, size=num))
        end = begin + len(one.rows)
        relative_BN = noise.std[k] * scale_B[:, None] * unit_BN[:, begin:end] / np.sqrt(one.curve.weight)
        losses.append(one.curve.at(one.curve.x) * (1.0 + relative_BN))
        begin = end
    return losses
