"""How much knowledge each family holds: bits stored against bits offered, and the level at which it is full.

Where a sweep offers one model ever more facts, what it stores rises and then levels off. For each series the means over
seeds are fitted by

    stored = K (1 - exp(-s offered / K)),

both in bits per non-embedding parameter of the budget's dense model: of each bit offered a share s is stored while
there is room, and K is the level at which the series saturates. The law is ours: the simplest one with a slope and a
ceiling that are both free; published capacities (Allen-Zhu and Li 2024, "Physics of Language Models: Part 3.3": 2 bits
per parameter after 1,000 exposures, 1 after 100) are ceilings too, for dense models and their own parameters.

1. Weighted least squares over the means; for a given s / K the law is linear in K, so one variable is searched.
2. Intervals are the middle 95 % of refits to the fitted means plus the runs' noise, what a seed shares over budgets
   included, scaled by sqrt(df / chi-square).
3. Refused where the means do not bend: an F test at 5 % against the straight line through the origin, without a K. An
   end of the interval is infinite where more than 2.5 % of the refits do not bend.

A series needs three amounts offered, the largest at least twice the smallest. Shapes: B refits, C cells, G steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import fdtri

from analysis import formatting
from analysis.gains.measures import BITS_PER_PARAMETER
from analysis.gains.run_noise import noise_of
from analysis.gains.run_table import levels
from analysis.inference.replicate_noise import NUM_REPLICATES, generator, percentile_interval
from analysis.inference.variance_components import NoiseModel
from analysis.interval import LEVEL, ConfidenceInterval
from analysis.result import Result
from analysis.tables.runs import FloatArray, Runs

if TYPE_CHECKING:
    import pandas as pd

OFFERED, STORED = "bits_offered_per_parameter", "bits_stored_per_parameter"
PUBLISHED = ((2.0, "1,000 exposures"), (1.0, "100 exposures"))
"""Bits per parameter that dense models store (Allen-Zhu and Li 2024), and after how many exposures."""
MIN_AMOUNTS, MIN_SPAN = 3, 2.0
BEND, MISFIT = 0.05, 0.01
"""Levels of the tests whether the means bend, and whether they miss the law."""
_SEARCH = np.concatenate([[1e-9], np.geomspace(1e-3, 1e2, 400)])
"""s / K times the largest amount offered; the first is a straight line."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The mean over seeds at one amount offered, per dense parameter."""

    budget: str
    offered: float
    stored: float
    interval: ConfidenceInterval | None
    num_seeds: int


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """One series: what it stored, and its law."""

    series: str
    points: tuple[Stored, ...]
    """By increasing amount offered."""
    level: float | None
    """K, bits per dense parameter; None where it is refused."""
    interval: ConfidenceInterval | None
    share: float | None
    """s, of each bit offered while there is room."""
    refusal: str
    warning: str
    rate: float = field(repr=False, default=math.nan)
    """s / K."""

    def curve(self, offered_X: FloatArray) -> FloatArray | None:
        """Bits stored by the law; None where there is none."""
        return None if self.level is None else np.asarray(self.level * -np.expm1(-self.rate * offered_X))

    def words(self) -> str:
        """'Dense saturates at 1.9 [1.7, 2.2] bits per dense parameter', or why that is not said."""
        name = formatting.series(self.series)
        if self.level is None:
            most = max(self.points, key=lambda point: point.stored)
            shown = formatting.with_interval(most.stored, most.interval, most=2)
            return f"{name}: no saturation ({self.refusal}); at most {shown} bits per dense parameter were stored"
        shown = formatting.with_interval(self.level, self.interval, most=2)
        warning = f" ({self.warning})" if self.warning else ""
        return f"{name} saturates at {shown} bits per dense parameter{warning}"


@dataclass(frozen=True, kw_only=True)
class Knowledge(Result):
    """Bits stored against bits offered, of every series."""

    series: tuple[Saturation, ...]
    level: float
    """Of the intervals of the means."""

    def to_frame(self) -> pd.DataFrame:
        """A row a point: series, budget, offered, stored, lower, upper, seeds, saturation, its ends."""
        import pandas as pd

        none = (math.nan, math.nan)
        rows = [
            (one.series, point.budget, point.offered, point.stored, *(point.interval or none), point.num_seeds,
             math.nan if one.level is None else one.level, *(one.interval or none))
            for one in self.series for point in one.points
        ]  # fmt: skip
        columns = ["series", "budget", "offered", "stored", "lower", "upper", "seeds"]
        return pd.DataFrame(rows, columns=[*columns, "saturation", "saturation_lower", "saturation_upper"])

    def summary(self) -> str:
        """A line a series."""
        return "\n".join(f"{one.words()}." for one in self.series)


def knowledge(runs: Runs, *, level: float = LEVEL, num_replicates: int = NUM_REPLICATES) -> Knowledge | None:
    """The saturation of every series that was offered several amounts; None where there is none.

    Args:
        runs: The compared runs of a table with the columns `OFFERED` and `STORED`.
        level: Of the intervals of the means.
        num_replicates: Refits for the interval of a saturation.
    """
    if not (runs.has(OFFERED) and runs.has(STORED)):
        return None
    model, _ = noise_of(runs, BITS_PER_PARAMETER, level=level)
    found = [_saturation(runs, label, model, num_replicates) for label in runs.labels if _is_varied(runs, label)]
    return Knowledge(series=tuple(found), level=level) if found else None


def _is_varied(runs: Runs, label: str) -> bool:
    offered = runs.number(OFFERED)[runs.of(label)]
    return len(np.unique(levels(offered))) >= MIN_AMOUNTS and float(offered.max()) >= MIN_SPAN * float(offered.min())


def _saturation(runs: Runs, label: str, model: NoiseModel | None, num: int) -> Saturation:
    offered_N, stored_N = runs.number(OFFERED), runs.number(STORED)
    budgets = sorted(runs.budgets(label), key=lambda budget: float(offered_N[runs.of(label, budget)].mean()))
    cells = [runs.of(label, budget) for budget in budgets]
    points = tuple(
        Stored(
            budget=budget.name,
            offered=float(offered_N[cell].mean()),
            stored=float(stored_N[cell].mean()),
            interval=None
            if model is None
            else model.contrast(cell / cell.sum()).interval(float(stored_N[cell].mean()), 1),
            num_seeds=int(cell.sum()),
        )
        for budget, cell in zip(budgets, cells, strict=True)
    )
    x_C, y_C = (np.array([getattr(point, name) for point in points]) for name in ("offered", "stored"))
    weight_C = np.array([point.num_seeds for point in points], dtype=np.float64)
    level, rate, square = (float(one[0]) for one in _fit(x_C, y_C[None, :], weight_C))
    line = float(_line_square(x_C, y_C, weight_C))
    refusal = _refusal(model, line - square, square, len(points), y_C)
    if refusal:
        return Saturation(
            series=label, points=points, level=None, interval=None, share=None, refusal=refusal, warning=""
        )
    interval, warning = None, ""
    if model is not None:
        own_N = runs.of(label)
        run_BN = model.shocks(num, own_N, generator(f"knowledge/{label}"))
        shock_BC = np.stack([run_BN[:, cell[own_N]].mean(axis=1) for cell in cells], axis=1)
        scale_B = np.sqrt(model.degrees / generator(f"knowledge/{label}/scale").chisquare(model.degrees, size=num))
        fitted_C = level * -np.expm1(-rate * x_C)
        level_B, rate_B, _ = _fit(x_C, fitted_C + scale_B[:, None] * shock_BC, weight_C)
        straight_B = rate_B * x_C.max() <= _SEARCH[1]
        interval = percentile_interval(np.where(straight_B, np.inf, level_B))
        rest = len(points) - 2
        if rest > 0 and square / rest > model.own.std**2 * float(fdtri(rest, model.own.degrees, 1 - MISFIT)):
            warning = "the means miss this law by more than the seeds explain"
    return Saturation(
        series=label, points=points, level=level, interval=interval, share=level * rate, refusal="", warning=warning,
        rate=rate,
    )  # fmt: skip


def _fit(x_C: FloatArray, y_BC: FloatArray, weight_C: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """K, s / K and the weighted sum of squares of the best law for each row, as [B] each."""
    rate_G = _SEARCH / x_C.max()
    shape_GC = -np.expm1(-rate_G[:, None] * x_C[None, :])
    size_G = (weight_C * shape_GC**2).sum(axis=1)
    along_BG = (weight_C * y_BC) @ shape_GC.T
    gained_BG = np.where(along_BG > 0, along_BG, 0.0) ** 2 / size_G
    best_B = np.argmax(gained_BG, axis=1)
    rows_B = np.arange(len(y_BC))
    square_B = (weight_C * y_BC**2).sum(axis=1) - gained_BG[rows_B, best_B]
    return along_BG[rows_B, best_B] / size_G[best_B], rate_G[best_B], np.maximum(square_B, 0.0)


def _line_square(x_C: FloatArray, y_C: FloatArray, weight_C: FloatArray) -> float:
    """The weighted sum of squares about the best line through the origin."""
    slope = float(weight_C @ (x_C * y_C)) / float(weight_C @ x_C**2)
    return float(weight_C @ (y_C - slope * x_C) ** 2)


def _refusal(model: NoiseModel | None, gained: float, square: float, num: int, y_C: FloatArray) -> str:
    """Why no saturation is given; '' where it is."""
    if y_C.max() <= 0:
        return "nothing was stored"
    noise = square / (num - 2) if model is None else model.own.std**2
    degrees = num - 2 if model is None else model.own.degrees
    if gained <= noise * float(fdtri(1, degrees, 1 - BEND)):
        return "what is stored does not bend away from a straight line (F test at 5 %)"
    return ""
