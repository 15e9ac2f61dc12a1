"""Laws ranked by what they predict of runs they have not seen, with AICc beside it.

Decides that the held-out error of extrapolation ranks, since that is what laws are fitted for; where no law has one,
the error of leaving sizes out does. AICc (Hurvich and Tsai 1989) is n times the log-likelihood of the residuals under
Huber's density of a fitted scale (1.345 scales wide), so that it reads alike under every objective; differences below
2 mean nothing; runs that come in groups have none, for their residuals are not independent. A law that cannot be
fitted stands at the end with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from analysis.errors import FitError
from analysis.fitting.cross_validation import Data, HeldOut, Options, extrapolations, leave_one_size_out
from analysis.inference.result import Fit
from analysis.laws.law import Law
from analysis.solver.objective import huber, log_normaliser

FloatArray = npt.NDArray[np.float64]

ROBUST = 1.345
"""Huber's constant: 95 % as efficient as least squares on normal noise."""


@dataclass(frozen=True, kw_only=True)
class LawScore:
    """One law on one table."""

    law: Law
    fit: Fit | None
    aicc: float
    extrapolations: tuple[HeldOut, ...]
    left_out: tuple[HeldOut, ...]
    reason: str = ""

    @property
    def extrapolation_rms(self) -> float:
        """Root mean square error of ln of the loss on larger runs than those fitted."""
        return _pooled(self.extrapolations)

    @property
    def left_out_rms(self) -> float:
        """Root mean square error of ln of the loss on sizes that were left out."""
        return _pooled(self.left_out)

    @property
    def fit_rms(self) -> float:
        """Of ln of the loss, on the runs that it was fitted to."""
        if self.fit is None:
            return math.nan
        return float(np.sqrt(np.mean(np.log(self.fit.predict(self.fit.columns) / self.fit.loss) ** 2)))


def rank(
    laws: Sequence[Law], columns_of: Mapping[str, Mapping[str, FloatArray]], data: Data, options: Options
) -> tuple[LawScore, ...]:
    """The best first; `columns_of` gives each law's columns by its name."""
    scores = [_score(law, columns_of.get(law.name), data, options) for law in laws]
    usable = [one for one in scores if math.isfinite(one.extrapolation_rms)]

    def key(one: LawScore) -> tuple[float, float]:
        first = one.extrapolation_rms if usable else one.left_out_rms
        return (first if math.isfinite(first) else math.inf, one.aicc if math.isfinite(one.aicc) else math.inf)

    return tuple(sorted(scores, key=key))


def _score(law: Law, columns: Mapping[str, FloatArray] | None, data: Data, options: Options) -> LawScore:
    if columns is None:
        reason = f"the table lacks a column it reads ({', '.join(column.name for column in law.columns)})"
        return LawScore(law=law, fit=None, aicc=math.nan, extrapolations=(), left_out=(), reason=reason)
    own = replace(data, columns=columns)
    try:
        whole = own.fit(law, np.ones(len(data.loss), dtype=bool), options.objective, options.delta)
    except FitError as error:
        return LawScore(law=law, fit=None, aicc=math.nan, extrapolations=(), left_out=(), reason=str(error))
    return LawScore(
        law=law,
        fit=whole,
        aicc=math.nan
        if data.clusters is not None
        else aicc(np.log(whole.predict(columns) / data.loss), len(law.parameters) + 1),
        extrapolations=extrapolations(law, own, options),
        left_out=leave_one_size_out(law, own, options),
    )


def aicc(residual_N: FloatArray, num_params: int) -> float:
    """AICc of residuals of ln of the loss; the scale is one of the parameters. Infinite with too few points."""
    num = len(residual_N)
    if num - num_params - 1 <= 0:
        return math.inf
    spread = float(np.sqrt(np.mean(residual_N**2)))
    if spread == 0:
        return -math.inf

    def deviance(log_scale: float) -> float:
        scaled = residual_N / math.exp(log_scale)
        return 2.0 * (float(huber(scaled, ROBUST).sum()) + num * (log_scale + log_normaliser(ROBUST)))

    middle = math.log(spread)
    best = minimize_scalar(deviance, bounds=(middle - 6.0, middle + 2.0), method="bounded")
    return float(best.fun) + 2.0 * num_params * num / (num - num_params - 1)


def _pooled(parts: Sequence[HeldOut]) -> float:
    """Root mean square over the parts' own: each cut counts alike."""
    each = [one.rms for one in parts if len(one.error)]
    if not each or len(each) < len(parts):
        return math.nan
    return float(np.sqrt(np.mean(np.square(each))))
