"""The figures of one fit: residuals against every column, profiles, the bootstrap's corner, the optimal N and D.

Each is left out where the fit has nothing to show in it: no profile of an asymmetric objective, no corner without a
bootstrap, no split where the law reads more than N and D.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis import formatting
from analysis.allocation import parametric
from analysis.errors import FitError
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure, save
from analysis.figures.palette import FAMILY_STYLES
from analysis.inference.profile import Profile, profile, threshold
from analysis.inference.result import Fit

COLOUR = FAMILY_STYLES["memory_plus"].colour
_DRAWS_SHOWN = 1000
_BUDGETS = 40
_SYMBOLS = {
    "alpha": "\N{GREEK SMALL LETTER ALPHA}",
    "beta": "\N{GREEK SMALL LETTER BETA}",
    "gamma": "\N{GREEK SMALL LETTER GAMMA}",
    "eta": "\N{GREEK SMALL LETTER ETA}",
    "eps": "\N{GREEK SMALL LETTER EPSILON}",
}


def write(fit: Fit, folder: Path) -> list[Path]:
    """Draw and write all of them. Raises AnalysisError."""
    return save(draw(fit), folder)


def draw(fit: Fit) -> list[Figure]:
    """Every figure that the fit has something to show in."""
    with style.styled():
        drawn = [_residuals(fit)]
        if fit.objective.kind != "asymmetric":
            drawn.append(_profiles(fit))
        if fit.replicates is not None and len(fit.replicates.theta) > 1:
            drawn.append(_corner(fit))
        if parametric.allocates(fit):
            with suppress(FitError):  # no compute-optimal allocation: the fit's other figures are still of use
                drawn.append(_allocation(fit))
    return drawn


def _residuals(fit: Fit) -> Figure:
    """Prediction minus data, against each column."""
    names = list(fit.columns)
    figure, panels = style.panels(len(names), height=2.1, right=0.15)
    scale = 100.0 if fit.objective.log else 1.0
    residual_N = scale * fit.residuals
    rows: list[DataRow] = []
    for axes, name in zip(panels, names, strict=True):
        values = fit.columns[name]
        axes.axhline(0.0, color=style.QUIET, lw=0.7, zorder=1)
        axes.plot(values, residual_N, "o", color=COLOUR, ms=3.2, mec="white", mew=0.4, alpha=0.8, zorder=3)
        if (values > 0).all() and values.max() > 3 * values.min():
            style.log_axis(axes, "x", *style.padded(float(values.min()), float(values.max()), 0.04), formatting.power)
        axes.set_xlabel(next(f"{name}, {column.meaning}" for column in fit.law.columns if column.name == name))
        axes.set_ylabel("residual, %" if fit.objective.log else "residual")
        rows += [("residual", name, x, y, "", "", "", "") for x, y in zip(values, residual_N, strict=True)]
    return Figure(
        stem="residuals",
        title="Residuals",
        caption=f"Prediction minus data of {fit.law.name}, {formatting.counted(fit.num_points, 'point')}"
        f"{', in per cent of the loss' if fit.objective.log else ''}. A pattern is what the law cannot say.",
        figure=figure,
        rows=rows,
    )


def _profiles(fit: Fit) -> Figure:
    """How the likelihood falls off as one parameter is held elsewhere."""
    names = [name for name in fit.law.names if name not in fit.fixed]
    figure, panels = style.panels(len(names), height=1.55, right=0.15)
    rows: list[DataRow] = []
    for axes, name in zip(panels, names, strict=True):
        found = profile(fit, name)
        _one_profile(axes, fit, found)
        rows += [("profile", name, x, y, "", "", "", "") for x, y in zip(found.values, found.ratio, strict=True)]
    return Figure(
        stem="profiles",
        title="Profile likelihood",
        caption="Likelihood ratio with one parameter held at the value below and the others refitted. The 95 % interval"
        " lies where a curve is below the dashed line.",
        figure=figure,
        rows=rows,
    )


def _one_profile(axes: Axes, fit: Fit, found: Profile) -> None:
    parameter = fit.law.parameters[fit.law.index(found.name)]
    axes.plot(found.values, found.ratio, color=COLOUR, lw=1.3)
    limit = threshold(fit.degrees)
    axes.axhline(limit, color=style.QUIET, lw=0.8, ls=(0, (4, 3)))
    axes.set_ylim(0.0, 2.2 * limit)
    inside = found.values[found.ratio <= 2.2 * limit]
    low, high = float(inside.min()), float(inside.max())
    if parameter.log and low > 0 and high > 3 * low:
        style.log_axis(axes, "x", *style.padded(low, high, 0.03))
    elif high > low:
        axes.set_xlim(low, high)
    axes.set_xlabel(symbol(found.name))
    axes.set_ylabel("likelihood ratio")
    axes.annotate(
        "limit of the 95 % interval", (0.5, limit), xycoords=("axes fraction", "data"), xytext=(0, 2),
        textcoords="offset points", ha="center", fontsize=6.5, color=style.QUIET,
    )  # fmt: skip


def _corner(fit: Fit) -> Figure:
    """Every pair of parameters over the bootstrap's refits."""
    assert fit.replicates is not None
    shown = np.random.default_rng(0).permutation(len(fit.replicates.theta))[:_DRAWS_SHOWN]
    values = fit.law.values(fit.replicates.theta[shown])
    logs = {parameter.name for parameter in fit.law.parameters if parameter.log}
    names = [name for name in fit.law.names if name not in fit.fixed and np.ptp(values[name]) > 0]
    drawn = {name: np.log10(values[name]) if name in logs else values[name] for name in names}
    best = {name: np.log10(fit.values[name]) if name in logs else fit.values[name] for name in names}
    words = {name: f"lg {symbol(name)}" if name in logs else symbol(name) for name in names}
    size, count = 1.05, len(names)
    figure, _ = style.panel()
    figure.clear()
    figure.set_size_inches(0.7 + size * count, 0.6 + size * count)
    grid = figure.subplots(count, count, squeeze=False)
    for row, lower in enumerate(names):
        for column, left in enumerate(names):
            axes = grid[row][column]
            if column > row:
                axes.set_axis_off()
                continue
            if row == column:
                axes.hist(drawn[left], bins=30, color=COLOUR, alpha=0.7)
                axes.axvline(best[left], color=style.INK, lw=0.8)
                axes.set_yticks([])
            else:
                axes.plot(drawn[left], drawn[lower], ".", ms=1.2, color=COLOUR, alpha=0.5, rasterized=True)
                axes.plot(best[left], best[lower], "+", ms=6, color=style.INK)
            axes.tick_params(labelsize=6)
            axes.locator_params(nbins=3)
            axes.set_xlabel(words[left]) if row == count - 1 else axes.set_xticklabels([])
            axes.set_ylabel(words[lower]) if column == 0 and row > 0 else None
            if column > 0:
                axes.set_yticklabels([])
    figure.subplots_adjust(left=0.12, right=0.98, bottom=0.11, top=0.98, wspace=0.08, hspace=0.08)
    if count > 1:
        # The upper corner is empty.
        handles = [
            Line2D([], [], color=COLOUR, marker=".", ls="", alpha=0.7, label="refits"),
            Line2D([], [], color=style.INK, marker="+", ms=6, lw=0.8, label="fit"),
        ]
        figure.legend(handles=handles, loc="upper right", frameon=False, fontsize=7)
    rows: list[DataRow] = [
        ("draw", name, at, float(value), "", "", "", "") for name in names for at, value in enumerate(values[name])
    ]
    return Figure(
        stem="bootstrap",
        title="Bootstrap refits",
        caption=f"{len(shown)} of {len(fit.replicates.theta)} refits to resampled points; lines and crosses: the fit.",
        figure=figure,
        rows=rows,
    )


def _allocation(fit: Fit) -> Figure:
    """The best N and D against C, dashed beyond the greatest FLOPs at hand."""
    flops_N = parametric.FLOPS_PER_PARAM_TOKEN * fit.columns["N"] * fit.columns["D"]
    least, most = float(flops_N.min()), float(flops_N.max())
    flops = np.geomspace(least, 100.0 * most, _BUDGETS)
    allocations = parametric.compute_optimal_allocation(fit, flops.tolist())
    figure, panels = style.panels(2, height=2.3, right=0.15)
    rows: list[DataRow] = []
    for axes, what, word in zip(panels, ("params", "tokens"), ("best parameters N*", "best tokens D*"), strict=True):
        value = np.array([getattr(one, what) for one in allocations])
        inside = flops <= most * (1 + 1e-9)
        bands = [getattr(one, f"{what}_ci95") for one in allocations]
        lower, upper = value, value
        if bands[0] is not None:
            lower, upper = (np.array([band[side] for band in bands]) for side in (0, 1))
            axes.fill_between(flops, lower, upper, color=COLOUR, alpha=0.18, lw=0, label="95 % of the refits")
        axes.plot(flops[inside], value[inside], color=COLOUR, lw=1.4, label="at the FLOPs of the runs")
        axes.plot(flops[~inside], value[~inside], color=COLOUR, lw=1.4, ls=(0, (4, 2)), label="extrapolated")
        style.log_axis(axes, "x", least, float(flops[-1]), formatting.power)
        style.log_axis(axes, "y", float(lower.min()), float(upper.max()), formatting.short_count)
        axes.set_xlabel("training FLOPs C = 6 N D")
        axes.set_ylabel(word)
        axes.legend(loc="upper left", frameon=False, fontsize=6.5, handlelength=2.0, labelspacing=0.3)
        rows += [
            ("split", what, x, y, low, high, "", "") for x, y, low, high in zip(flops, value, lower, upper, strict=True)
        ]
    band = " Bands: 95 % of the bootstrap's refits." if fit.replicates is not None else ""
    return Figure(
        stem="best_split",
        title="The compute-optimal allocation of compute",
        caption=f"N and D of least loss by {fit.law.name}; dashed beyond the FLOPs of the points.{band}",
        figure=figure,
        rows=rows,
    )


def symbol(name: str) -> str:
    """A parameter's name as it is written: alpha_N is α_N."""
    head, line, tail = name.partition("_")
    return _SYMBOLS.get(head, head) + line + tail
