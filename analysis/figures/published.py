"""The figures of published data: recall and answer NLL against table size."""

from __future__ import annotations

from pathlib import Path

from analysis import formatting
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure, save
from analysis.figures.palette import FAMILY_STYLES
from analysis.published.memory_layers import Curve

_WORDS = {"accuracy": "accuracy, %", "nll": "NLL of the answers, nats"}


def write_curves(curves: tuple[Curve, ...], folder: Path) -> list[Path]:
    """Figure 1 of the paper: a panel a task and metric, the dense 1.3b model at the left, the 7B one dashed."""
    with style.styled():
        figure, panels = style.panels(len(curves), height=2.1, top=0.24, right=0.8)
        rows: list[DataRow] = []
        mark = FAMILY_STYLES["memory_plus"]
        for axes, curve in zip(panels, curves, strict=True):
            with_table = [one for one in zip(curve.table_params, curve.values, strict=True) if one[0] > 0]
            x, y = zip(*with_table, strict=True)
            axes.plot(x, y, mark.marker, color=mark.colour, ls="-", lw=1.2, ms=4.4, mec="white", mew=0.5)
            style.log_axis(axes, "x", *style.padded(min(x), max(x), 0.05), formatting.short_count)
            dense = ((curve.values[0], "dense 1.3b"), (curve.dense_7b, "dense 7B"))
            for value, _ in dense:
                axes.axhline(value, color=style.QUIET, lw=0.9, ls=(0, (4, 3)), zorder=1)
            axes.set_ylim(*axes.get_ylim())  # labels need the final limits
            right = axes.get_xlim()[1]
            style.put_labels(
                axes,
                [style.Label(text=word, colour=style.QUIET, x=right, y=value, quiet=True) for value, word in dense],
            )
            axes.set_title(curve.task, fontsize=8, fontweight="bold", loc="left", pad=2)
            axes.set_ylabel(_WORDS[curve.metric])
            rows += [("published", f"{curve.task} {curve.metric}", *one, "", "", "", "") for one in with_table]
        panels[-1].set_xlabel("parameters of the table")
    figures = Figure(
        stem="memory_layers_figure_1",
        title="Recall against table size",
        caption="Berges et al. 2024, Figure 1, digitised; dashed: dense models of 1.3b and 7B parameters.",
        figure=figure,
        rows=rows,
    )
    return save([figures], folder)
