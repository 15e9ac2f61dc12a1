"""One family against another along compute or parameters: the loss difference and the multiplier, at each scale.

Both families get the same law, L = A x^-alpha or L = E + A x^-alpha by how many levels the poorer one has, fitted on
their own runs. At x the difference is L_subject(x) - L_baseline(x), and the multiplier is by how many times more x the
baseline needs for the loss that the subject has at x. Each bootstrap draw refits both. Decides that a multiplier is
said to be extrapolated where the baseline's x lies outside its own runs. Refuses one where the baseline never reaches
that loss, or does so in less than half of the draws; where some draws never do, the interval has no upper end.
Equal parameters are an equal footing only where tokens follow from them (the same for both, or a fixed ratio).

Shapes: B replicates, K scales.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.fitting.fit_law import fit_law
from analysis.fitting.power_law import SeriesFit, choose
from analysis.inference.bootstrap import bootstrap
from analysis.interval import ConfidenceInterval

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Family:
    """The runs of one family along one axis."""

    name: str
    x: FloatArray
    loss: FloatArray
    clusters: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Subject against baseline at one x."""

    x: float
    difference: float
    """Subject minus baseline, in the loss's unit."""
    difference_ci95: ConfidenceInterval
    multiplier: float | None
    multiplier_ci95: ConfidenceInterval | None
    reason: str
    """Why there is no multiplier; '' where there is one."""
    extrapolated: bool
    """The subject's x, or the x that the baseline needs, lies outside that family's runs."""


@dataclass(frozen=True, kw_only=True)
class Gains:
    """Along one axis."""

    axis: str
    subject: str
    baseline: str
    law: str
    why: str
    at: tuple[Gain, ...]
    warnings: tuple[str, ...]
    families: tuple[Family, Family] = field(repr=False)
    """Subject and baseline."""
    fits: tuple[SeriesFit, SeriesFit] = field(repr=False)

    def along(self, x_K: Sequence[float]) -> tuple[Gain, ...]:
        """Read the gains off at other x."""
        return tuple(_gain(*self.fits, *self.families, float(x)) for x in x_K)

    def statement(self, one: Gain, unit: str) -> str:
        """'memory_plus over moe: x2.1 [1.7, 2.6] compute at 3e18 FLOPs'."""
        head = f"{self.subject} over {self.baseline}"
        if one.multiplier is None:
            return f"{head}: no multiplier at {one.x:.3g} {unit}: {one.reason}"
        assert one.multiplier_ci95 is not None
        lower, upper = one.multiplier_ci95
        outside = ", extrapolated" if one.extrapolated else ""
        what = "compute" if self.axis == "C" else "parameters"
        return f"{head}: x{one.multiplier:.3g} [{lower:.3g}, {upper:.3g}] {what} at {one.x:.3g} {unit}{outside}"


def gains(
    subject: Family,
    baseline: Family,
    axis: str,
    *,
    at: Sequence[float] = (),
    objective: str = "log_lsq",
    num_replicates: int = 2000,
    seed: int = 0,
) -> Gains:
    """Fit both and read the gains off at each x (without any: the ends and the middle of the common range)."""
    levels = min(len(np.unique(np.round(np.log(one.x), 3))) for one in (subject, baseline))
    law, why = choose(levels, "level")
    fitted = []
    warnings = []
    for number, one in enumerate((subject, baseline)):
        try:
            best = fit_law(law, {"x": one.x}, one.loss, objective=objective)
            draws = bootstrap(best, num=num_replicates, clusters=one.clusters, seed=seed + number)
        except FitError as error:
            raise FitError(f"family '{one.name}': {error}") from None
        warnings += [f"{one.name}: {warning.text}" for warning in best.warnings]
        fitted.append(SeriesFit(fit=best.with_replicates(draws)))
    low = max(float(subject.x.min()), float(baseline.x.min()))
    high = min(float(subject.x.max()), float(baseline.x.max()))
    if not at:
        if low > high:
            raise FitError(f"the runs of {subject.name} and {baseline.name} have no range in common; say where (--at)")
        at = sorted({low, math.sqrt(low * high), high})
    found = Gains(
        axis=axis,
        subject=subject.name,
        baseline=baseline.name,
        law=law.formula,
        why=why,
        at=(),
        warnings=tuple(warnings),
        families=(subject, baseline),
        fits=(fitted[0], fitted[1]),
    )
    return replace(found, at=found.along(at))


def _gain(ours: SeriesFit, theirs: SeriesFit, subject: Family, baseline: Family, x: float) -> Gain:
    assert ours.fit.replicates is not None
    assert theirs.fit.replicates is not None
    here = np.array([x])
    drawn = (ours.fit.replicates.theta, theirs.fit.replicates.theta)
    ours_best, theirs_best = (one.log_loss(one.best, here)[:, 0] for one in (ours, theirs))
    ours_B, theirs_B = (one.log_loss(theta, here)[:, 0] for one, theta in zip((ours, theirs), drawn, strict=True))
    log_reach = float(theirs.reach(theirs.best, ours_best)[0])
    outside = not subject.x.min() * 0.999 <= x <= subject.x.max() * 1.001
    value, interval, reason = None, None, ""
    if math.isinf(log_reach):
        reason = f"{baseline.name}'s law never reaches the loss of {subject.name} there"
    else:
        log_B = theirs.reach(drawn[1], ours_B) - math.log(x)
        reached = float(np.isfinite(log_B).mean())
        value = math.exp(log_reach - math.log(x))
        lower, upper = np.quantile(log_B, [0.025, 0.975], method="inverted_cdf")
        interval = ConfidenceInterval(
            math.exp(lower), math.exp(min(float(upper), 700.0)) if np.isfinite(upper) else math.inf
        )
        if reached < 0.5:
            value, interval, reason = None, None, f"{baseline.name} reaches that loss in {reached:.0%} of the draws"
        outside |= not baseline.x.min() * 0.999 <= math.exp(log_reach) <= baseline.x.max() * 1.001
    difference_B = np.exp(ours_B) - np.exp(theirs_B)
    return Gain(
        x=x,
        difference=float(np.exp(ours_best[0]) - np.exp(theirs_best[0])),
        difference_ci95=ConfidenceInterval(
            float(np.quantile(difference_B, 0.025)), float(np.quantile(difference_B, 0.975))
        ),
        multiplier=value,
        multiplier_ci95=interval,
        reason=reason,
        extrapolated=outside,
    )
