"""The figure of `benchmarks.memory_step`: seconds per step against the number of slots, a line a library.

`python -m benchmarks.memory_step_figure JSON PNG [--width 256]`. One width, uniform slots; both axes are logarithmic,
and a bar is the range of the rounds. The two floors are dashed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from analysis import formatting
from analysis.figures import style
from analysis.figures.palette import SeriesStyle
from memscale.records.atomic import read_json, write_bytes

WIDTH, INDICES = 256, "uniform"

# Okabe and Ito's colours, and markers that say the same without colour.
_SHOWN = {
    "torch_dense": ("torch, AdamW", SeriesStyle(colour="#555555", marker="o")),
    "torch_dense_fused": ("torch, fused AdamW", SeriesStyle(colour="#CC79A7", marker="P")),
    "torch_sparse": ("torch, SparseAdam", SeriesStyle(colour="#D55E00", marker="s")),
    "fbgemm": ("FBGEMM, Adagrad", SeriesStyle(colour="#009E73", marker="v")),
    "ours": ("memscale, AdamW", SeriesStyle(colour="#0072B2", marker="D")),
}
_FLOORS = {"lazy_floor_s": "floor, lazy", "floor_s": "floor"}


def write(done: dict[str, Any], path: Path, width: int = WIDTH) -> None:
    """Draw the result of a measurement: rows of `width`, of the first type and batch size.

    Raises:
        ValueError: There is no such row.
    """
    rows = [row for row in done["rows"] if row["width"] == width and row["indices"] == INDICES]
    if not rows:
        raise ValueError(f"nothing to draw: no row has width {width} and {INDICES} indices")
    rows = [row for row in rows if all(row.get(key) == rows[0].get(key) for key in ("tokens", "dtype"))]
    with style.styled():
        figure, axes = style.panel(width=4.6, right=1.32)
        _set_axes(axes, rows)
        labels = [_floor(axes, rows, which, words) for which, words in _FLOORS.items()]
        labels += [_line(axes, rows, name) for name in _SHOWN if any(row["backend"] == name for row in rows)]
        style.put_labels(axes, labels)
    write_bytes(path, style.png(figure))


def _set_axes(axes: Axes, rows: list[dict[str, Any]]) -> None:
    sizes = sorted({row["slots"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xlim(*style.padded(sizes[0], sizes[-1], 0.06))
    style.set_ticks(axes, "x", sizes, formatting.slots)
    axes.set_xlabel(f"slots of the table (width {rows[0]['width']})")
    low = min(min(row["floor_s"], row["spread"][0]) for row in rows)
    high = max(row["spread"][1] for row in rows)
    style.log_axis(axes, "y", *style.padded(low, high, 0.06), most=7)
    axes.set_ylabel(f"seconds per step, {rows[0]['tokens']:,} tokens")


def _line(axes: Axes, rows: list[dict[str, Any]], name: str) -> style.Label:
    words, look = _SHOWN[name]
    own = sorted((row for row in rows if row["backend"] == name), key=lambda row: row["slots"])
    slots, seconds = [row["slots"] for row in own], [row["step_s"] for row in own]
    axes.vlines(slots, [row["spread"][0] for row in own], [row["spread"][1] for row in own], color=look.colour, lw=0.9)
    ours = name == "ours"
    axes.plot(
        slots, seconds, marker=look.marker, color=look.colour, lw=1.8 if ours else 1.2, ms=4.5, mec="white", mew=0.5,
        zorder=4 if ours else 3, clip_on=False,
    )  # fmt: skip
    return style.Label(text=words, colour=look.colour, x=slots[-1], y=seconds[-1], quiet=not ours)


def _floor(axes: Axes, rows: list[dict[str, Any]], which: str, words: str) -> style.Label:
    points = sorted({(row["slots"], row[which]) for row in rows})
    slots, seconds = [slot for slot, _ in points], [second for _, second in points]
    axes.plot(slots, seconds, color=style.QUIET, lw=0.9, ls=(0, (4, 2)), zorder=1)
    return style.Label(text=words, colour=style.QUIET, x=slots[-1], y=seconds[-1], quiet=True)


def main() -> None:
    """Draw the figure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_step_figure", description=__doc__)
    parser.add_argument("json", type=Path, help="what benchmarks.memory_step wrote")
    parser.add_argument("png", type=Path)
    parser.add_argument("--width", type=int, default=WIDTH)
    given = parser.parse_args()
    write(read_json(given.json, format=1), given.png, given.width)


if __name__ == "__main__":
    main()
