"""The axis of what was spent, which the figures of losses and of recall share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes

from analysis import formatting
from analysis.figures import style
from analysis.gains.scaling_curves import FLOPS, Axis
from analysis.sweep.study import Study
from analysis.tables.runs import FloatArray, Runs


def one_column(study: Study) -> bool:
    """Whether settings or model sizes would lie above each other at one number of FLOPs.

    Their own figures show them side by side.
    """
    one_budget = len(study.results.compare.budgets()) == 1
    return study.isoflops is not None or (study.focus in ("table_sizes", "ablations") and one_budget)


def spent_axis(axes: Axes, runs: Runs, axis: Axis, x_N: FloatArray) -> None:
    """FLOPs with a tick at each budget where these are far enough apart; else, and for seconds, round numbers."""
    lower, upper = style.padded(float(x_N.min()), float(x_N.max()), 0.07, least=1.25)
    text: Callable[[float], str] | None = formatting.power if axis is FLOPS else None
    style.log_axis(axes, "x", lower, upper, text, most=4 if axis is FLOPS else 5)
    budgets = runs.flops_budgets()
    gaps = np.diff(np.log(budgets)) / np.log(upper / lower)
    if axis is FLOPS and len(budgets) <= 5 and (len(gaps) == 0 or gaps.min() > 0.19):
        style.set_ticks(axes, "x", budgets, lambda tick: formatting.power(tick, 2))
    axes.set_xlabel("training FLOPs" if axis is FLOPS else "training seconds")
