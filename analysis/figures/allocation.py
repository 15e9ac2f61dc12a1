"""The figures of a split of compute: isoFLOP curves with their minima, and the frontiers of all approaches.

What was left out of a frontier is drawn crossed; lines beyond the greatest FLOPs at hand are dashed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from analysis import formatting
from analysis.allocation import parametric
from analysis.allocation.approaches import Approaches
from analysis.allocation.frontier import ComputeOptimalFrontier
from analysis.allocation.minima import budgets
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure, save
from analysis.figures.palette import FAMILY_STYLES, OTHER_STYLES, shades
from analysis.inference.result import Fit

FloatArray = npt.NDArray[np.float64]

_COLOURS = {"1": OTHER_STYLES[0].colour, "2": FAMILY_STYLES["moe"].colour, "3": FAMILY_STYLES["memory_plus"].colour}
_AHEAD = 10.0
_NAMED_TOP = 0.3
"""Inches above the axes, for the names of the marks."""
_CURVES = {
    "window": "cubics in lg N through the runs around the minimum",
    "parabola": "parabolas in lg N through all runs",
    "akima": "Akima's curves through the mean of each size",
}


def write(found: Approaches, folder: Path) -> list[Path]:
    """Draw and write all of them. Raises AnalysisError."""
    params_N, flops_N, loss_N = found.runs.params, found.runs.flops, found.runs.loss
    with style.styled():
        figures = [_frontier(found, flops_N, "params"), _frontier(found, flops_N, "tokens"), _ratio(found, flops_N)]
        if found.isoflop is not None:
            figures.insert(0, _curves(found, params_N, flops_N, loss_N))
        if found.envelope is not None:
            figures.append(_envelope(found.envelope, flops_N, loss_N))
        if found.law is not None:
            figures.append(_contours(found.law))
    return save(figures, folder)


def _curves(found: Approaches, params_N: FloatArray, flops_N: FloatArray, loss_N: FloatArray) -> Figure:
    assert found.isoflop is not None
    figure, axes = style.panel(right=0.75, top=_NAMED_TOP)
    colours = shades(_COLOURS["3"], len(found.isoflop.minima))
    rows: list[DataRow] = []
    ends = []
    parts = zip(budgets(flops_N), colours, found.isoflop.minima, found.isoflop.curves, strict=True)
    for at, colour, minimum, curve in parts:
        order = at[np.argsort(params_N[at])]
        x, y = params_N[order], loss_N[order]
        text = formatting.power(minimum.flops, 2)
        axes.plot(x, y, "o", color=colour, ms=3.0, mec="white", mew=0.3, zorder=3)
        rows += [("run", text, *point, "", "", "", "") for point in zip(x, y, strict=True)]
        if curve is not None:
            fine = np.linspace(curve.x.min(), curve.x.max(), 200)
            height = curve.at(fine)
            axes.plot(10.0**fine, height, color=colour)
            rows += [("curve", text, *point, "", "", "", "") for point in zip(10.0**fine, height, strict=True)]
        if x.min() <= minimum.params <= x.max():
            mark = "x" if minimum.reason else "o"
            axes.plot(minimum.params, minimum.loss, mark, ms=7, mfc="none", mec=style.INK, mew=0.9, zorder=4)
        ends.append(style.Label(text=text, colour=colour, x=float(x[-1]), y=float(y[-1]), quiet=True))
        interval = minimum.params_ci95 or ("", "")
        kind = "left out" if minimum.reason else "minimum"
        rows.append((kind, text, minimum.params, minimum.loss, *interval, "", ""))
    style.log_axis(axes, "x", *style.padded(float(params_N.min()), float(params_N.max()), 0.04), formatting.short_count)
    style.log_axis(axes, "y", *style.padded(float(loss_N.min()), float(loss_N.max()), 0.05), most=7)
    axes.set_xlabel("parameters N")
    axes.set_ylabel("loss")
    style.put_labels(axes, ends, width=6.0)
    for mark, name in (("o", "minimum"), ("x", "minimum not counted")):
        if any(bool(one.reason) == (mark == "x") for one in found.isoflop.minima):
            axes.plot([], [], mark, ms=7, mfc="none", mec=style.INK, mew=0.9, label=name)
    _name_marks(axes)
    return Figure(
        stem="isoflop_curves",
        title="Loss against model size at equal FLOPs",
        caption=f"Points: runs; lines: {_CURVES[found.isoflop.method]}, one a FLOPs budget; circles: their minima;"
        " crosses: minima that do not count.",
        figure=figure,
        rows=rows,
    )


def _frontier(found: Approaches, flops_N: FloatArray, what: str) -> Figure:
    figure, axes = style.panel(left=0.65, right=0.8)
    grid, most = _grid(flops_N)
    rows: list[DataRow] = []
    ends, values = [], []
    for name, value, lower, upper in _lines(found, grid, what):
        colour = _COLOURS[name[0]]
        if lower is not None and upper is not None:
            axes.fill_between(grid, lower, upper, color=colour, alpha=0.15, lw=0)
        _two_parts(axes, grid, value, most, colour)
        ends.append(style.Label(text=f"appr. {name[0]}", colour=colour, x=float(grid[-1]), y=float(value[-1])))
        values.append(value)
        rows += [("line", name, x, y, "", "", "", "") for x, y in zip(grid, value, strict=True)]
    for frontier in found.frontiers:
        x = [one.flops for one in frontier.used]
        y = [float(getattr(one, what)) for one in frontier.used]
        axes.plot(x, y, "o", color=_COLOURS[frontier.approach[0]], ms=3.6, mec="white", mew=0.4, zorder=3)
        rows += [("minimum", frontier.approach, *point, "", "", "", "") for point in zip(x, y, strict=True)]
        values.append(np.array(y))
    every = np.concatenate(values)
    style.log_axis(axes, "x", float(grid[0]) / 1.3, float(grid[-1]), formatting.power)
    style.log_axis(axes, "y", *style.padded(float(every.min()), float(every.max()), 0.04), formatting.short_count)
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel("best parameters N*" if what == "params" else "best tokens D*")
    style.put_labels(axes, ends)
    return Figure(
        stem=f"best_{what}",
        title=f"The best number of {'parameters' if what == 'params' else 'tokens'}",
        caption="By approach; points: the minima of approaches 1 and 2; bands: 95 % intervals of approaches 2 and 3;"
        " dashed beyond the FLOPs at hand.",
        figure=figure,
        rows=rows,
    )


def _ratio(found: Approaches, flops_N: FloatArray) -> Figure:
    figure, axes = style.panel(left=0.65, right=0.8)
    grid, most = _grid(flops_N)
    rows: list[DataRow] = []
    ends, values = [], []
    by_params = {name: value for name, value, _, _ in _lines(found, grid, "params")}
    for name, tokens, _, _ in _lines(found, grid, "tokens"):
        value = tokens / by_params[name]
        _two_parts(axes, grid, value, most, _COLOURS[name[0]])
        label = style.Label(text=f"appr. {name[0]}", colour=_COLOURS[name[0]], x=float(grid[-1]), y=float(value[-1]))
        ends.append(label)
        values.append(value)
        rows += [("line", name, x, y, "", "", "", "") for x, y in zip(grid, value, strict=True)]
    every = np.concatenate(values)
    style.log_axis(axes, "x", float(grid[0]) / 1.3, float(grid[-1]), formatting.power)
    style.log_axis(axes, "y", *style.padded(float(every.min()), float(every.max()), 0.06))
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel("best tokens per parameter D*/N*")
    style.put_labels(axes, ends)
    return Figure(
        stem="tokens_per_parameter",
        title="The best number of tokens per parameter",
        caption="By approach; dashed beyond the FLOPs at hand.",
        figure=figure,
        rows=rows,
    )


def _envelope(frontier: ComputeOptimalFrontier, flops_N: FloatArray, loss_N: FloatArray) -> Figure:
    """Every run, and the line through those that no cheaper run beats."""
    figure, axes = style.panel(right=0.15, top=_NAMED_TOP)
    x, y = [one.flops for one in frontier.minima], [one.loss for one in frontier.minima]
    axes.plot(flops_N, loss_N, "o", color=style.QUIET, ms=2.6, alpha=0.5, mew=0, zorder=2, label="run")
    axes.plot(
        x,
        y,
        "o-",
        color=_COLOURS["1"],
        ms=4,
        lw=1.1,
        mec="white",
        mew=0.4,
        zorder=3,
        label="not beaten by a cheaper run",
    )
    _name_marks(axes)
    style.log_axis(axes, "x", *style.padded(float(flops_N.min()), float(flops_N.max()), 0.03), formatting.power)
    style.log_axis(axes, "y", *style.padded(float(loss_N.min()), float(loss_N.max()), 0.05), most=7)
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel("loss")
    rows: list[DataRow] = [("run", "", *point, "", "", "", "") for point in zip(flops_N, loss_N, strict=True)]
    rows += [("envelope", "", *point, "", "", "", "") for point in zip(x, y, strict=True)]
    return Figure(
        stem="envelope",
        title="The envelope of all runs",
        caption="Points: runs; line: those that no run of as few FLOPs or fewer beats.",
        figure=figure,
        rows=rows,
    )


def _contours(law: Fit) -> Figure:
    """Lines of equal loss over N and D by the law, the runs, and the compute-optimal allocation of every C."""
    figure, axes = style.panel(left=0.6, right=0.15, top=_NAMED_TOP)
    N, D = law.columns["N"], law.columns["D"]
    x = np.geomspace(N.min() / 1.5, N.max() * 3, 80)
    y = np.geomspace(D.min() / 1.5, D.max() * 3, 80)
    mesh = np.meshgrid(x, y)
    loss = law.predict({"N": mesh[0].ravel(), "D": mesh[1].ravel()}).reshape(mesh[0].shape)
    levels = np.quantile(loss, np.linspace(0.05, 0.95, 9))
    # before the labels, which are placed along the lines as they are drawn
    style.log_axis(axes, "x", float(x[0]), float(x[-1]), formatting.short_count)
    style.log_axis(axes, "y", float(y[0]), float(y[-1]), formatting.short_count)
    lines = axes.contour(x, y, loss, levels=levels, colors=style.QUIET, linewidths=0.7)
    axes.clabel(lines, fmt="%.2f", fontsize=6)
    axes.plot(N, D, "o", color=_COLOURS["3"], ms=2.6, mew=0, alpha=0.6, label="run")
    flops = np.geomspace(6 * float((N * D).min()), 6 * float((N * D).max()), 30)
    best = parametric.compute_optimal_allocation(law, flops.tolist())
    axes.plot(
        [one.params for one in best], [one.tokens for one in best], color=_COLOURS["2"], lw=1.4, label="compute-optimal"
    )
    axes.plot([], [], color=style.QUIET, lw=0.7, label="equal loss")
    _name_marks(axes)
    axes.set_xlabel("parameters N")
    axes.set_ylabel("tokens D")
    rows: list[DataRow] = [("run", "", *point, "", "", "", "") for point in zip(N, D, strict=True)]
    rows += [("compute-optimal allocation", "", one.params, one.tokens, "", "", "", "") for one in best]
    return Figure(
        stem="contours",
        title="Lines of equal loss",
        caption="By the law; points: runs; line: the best N and D of every number of FLOPs.",
        figure=figure,
        rows=rows,
    )


def _name_marks(axes: Axes) -> None:
    """Name the marks above the axes."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, frameon=False, fontsize=6.5, handlelength=1.6,
        columnspacing=1.2, borderaxespad=0.2,
    )  # fmt: skip


def _grid(flops_N: FloatArray) -> tuple[FloatArray, float]:
    most = float(flops_N.max())
    return np.geomspace(float(flops_N.min()), _AHEAD * most, 60), most


def _lines(
    found: Approaches, grid: FloatArray, what: str
) -> list[tuple[str, FloatArray, FloatArray | None, FloatArray | None]]:
    """Name, value, and the band where there is one, of each approach."""
    lines: list[tuple[str, FloatArray, FloatArray | None, FloatArray | None]] = []
    for frontier in found.frontiers:
        power = frontier.params if what == "params" else frontier.tokens
        ends = [power.interval_at(float(flops)) for flops in grid]
        known = [one for one in ends if one is not None]
        low, high = (np.array([one[side] for one in known]) if known else None for side in (0, 1))
        lines.append((frontier.approach, np.array([power.at(float(flops)) for flops in grid]), low, high))
    if found.law is not None:
        allocations = parametric.compute_optimal_allocation(found.law, grid.tolist())
        bands = [getattr(one, f"{what}_ci95") for one in allocations]
        lower, upper = (None if bands[0] is None else np.array([band[side] for band in bands]) for side in (0, 1))
        lines.append(("3 (law)", np.array([float(getattr(one, what)) for one in allocations]), lower, upper))
    return lines


def _two_parts(axes: Axes, grid: FloatArray, value: FloatArray, most: float, colour: str) -> None:
    inside = grid <= most * (1 + 1e-9)
    axes.plot(grid[inside], value[inside], color=colour, lw=1.3)
    axes.plot(grid[~inside], value[~inside], color=colour, lw=1.3, ls=(0, (4, 2)))
