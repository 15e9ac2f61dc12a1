"""The gain of a series over another along an axis, as the verb, the report and notebooks show it.

A gain has three parts: the differences in loss at the levels that both series have, with their mean; the difference of
the fitted laws; and the multiplier, the factor of compute (or parameters) that the baseline needs for the same loss.
How each is computed and when it is refused: see `gains.differences`, `gains.scaling_curves` and `gains.multipliers`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from analysis import formatting
from analysis.errors import FitError
from analysis.gains.differences import Comparison, Difference, compare
from analysis.gains.measures import LOSS
from analysis.gains.multipliers import LawDifference, Multiplier, law_difference, multiplier
from analysis.gains.scaling_curves import Axis, Curves, fit_curves
from analysis.interval import ConfidenceInterval
from analysis.result import Result
from analysis.tables.runs import Runs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Gain(Result):
    """The gain of a subject over a baseline along an axis."""

    subject: str
    baseline: str
    axis: Axis
    differences: Comparison | None
    """Differences at each level that both have; None if there is no such level."""
    law_differences: tuple[LawDifference, ...]
    """Subject minus baseline by the laws, at each x of `multipliers`."""
    multipliers: tuple[Multiplier, ...]
    """The multiplier at each requested x."""
    curves: Curves = field(repr=False)
    """The laws of all series."""
    runs: Runs = field(repr=False)
    warnings: tuple[str, ...]

    @property
    def multiplier(self) -> Multiplier:
        """The multiplier at the largest requested x, by default the end of the common range."""
        return self.multipliers[-1]

    def to_frame(self) -> pd.DataFrame:
        """A row for each number: quantity, at, value, lower, upper, note; `at` is NaN for the mean over levels."""
        import pandas as pd

        rows: list[tuple[str, float, float | None, ConfidenceInterval | None, str]] = []
        if self.differences is not None:
            for one in (*self.differences.at_budgets, self.differences.overall):
                at = math.nan if one.budget_flops is None else one.budget_flops
                note = self.differences.no_interval_because if one.interval is None else ""
                name = "mean difference" if one.budget_flops is None else "difference"
                rows.append((name, at, one.value, one.interval, note))
        rows += [("law difference", one.at, one.value, one.interval, "") for one in self.law_differences]
        rows += [("multiplier", one.at, one.value, one.interval, one.refusal or one.note) for one in self.multipliers]
        return pd.DataFrame(
            [
                (name, at, math.nan if value is None else value, *(ends or (math.nan, math.nan)), note)
                for name, at, value, ends, note in rows
            ],
            columns=["quantity", "at", "value", "lower", "upper", "note"],
        )

    def summary(self) -> str:
        """Lines for the law, each multiplier, each difference, the noise and the warnings."""
        head = f"{self.subject} over {self.baseline} along {self.axis.words} ({self.curves.law.formula})"
        lines = [head, *(f"  {self.statement(one)}" for one in self.multipliers)]
        lines += [f"  loss by the laws at {self._place(one.at)}: {_loss(one)}" for one in self.law_differences]
        if self.differences is not None:
            for one in self.differences.at_budgets:
                lines.append(f"  loss of the runs at {self._place(one.budget_flops or 0.0)}: {_loss(one)}")
            if len(self.differences.at_budgets) > 1:
                mean = _loss(self.differences.overall)
                lines.append(f"  mean over {len(self.differences.at_budgets)} levels: {mean}")
        lines.append(f"  law: {self.curves.why}")
        noise = self.curves.noise
        if noise is None:
            lines.append(f"  no intervals: {self.curves.no_interval_because}")
        else:
            known = f"{100 * noise.std:.2g} % ({formatting.counted(noise.degrees, 'degree of freedom')})"
            lines.append(f"  noise of a run {known}: {noise.source}")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    def statement(self, one: Multiplier) -> str:
        """'memory_plus over moe: x2.1 [1.7, 2.6] compute at 3e18 FLOPs', or why there is no multiplier."""
        head = f"{self.subject} over {self.baseline}"
        if one.value is None:
            return f"{head}: no multiplier at {self._place(one.at)}: {one.refusal}"
        interval = "" if one.interval is None else f" [{one.interval.lower:.3g}, {one.interval.upper:.3g}]"
        note = f" ({one.note})" if one.note else ""
        return f"{head}: x{one.value:.3g}{interval} {self.axis.what} at {self._place(one.at)}{note}"

    def _place(self, x: float) -> str:
        return f"{x:.3g} {self.axis.unit or self.axis.words}"


def _loss(one: LawDifference | Difference) -> str:
    return formatting.with_interval(one.value, one.interval, sign=True, most=5)


def gain_between(
    runs: Runs,
    subject: str,
    baseline: str,
    axis: Axis,
    *,
    at: Sequence[float] = (),
    clustered: bool = False,
    curves: Curves | None = None,
) -> Gain:
    """The gain of a series over another, from runs.

    Args:
        runs: All runs of the table: the noise and the form of the law are estimated from all series.
        subject: Label of a series.
        baseline: Label of the series it is compared with.
        axis: Compute, parameters or seconds.
        at: Values of x at which to compute multipliers; by default the end of the common range.
        clustered: Rows are checkpoints, and `runs.seed` numbers their runs.
        curves: The laws of these runs along `axis` where they are fitted already.

    Raises:
        FitError: One of the two has no law, or their ranges do not overlap and no `at` is given.
    """
    curves = fit_curves(runs, axis, clustered=clustered) if curves is None else curves
    places: list[float | None] = [*sorted(at)] or [None]
    law_differences = tuple(law_difference(curves, subject, baseline, one) for one in places)
    multipliers = tuple(multiplier(curves, subject, baseline, one) for one in places)
    try:
        differences = compare(runs, subject, baseline, LOSS, law_noise=curves.noise)
    except FitError:
        differences = None
    return Gain(
        subject=subject,
        baseline=baseline,
        axis=axis,
        differences=differences,
        law_differences=law_differences,
        multipliers=multipliers,
        curves=curves,
        runs=runs,
        warnings=tuple(dict.fromkeys((*curves.warnings, *(() if differences is None else differences.warnings)))),
    )
