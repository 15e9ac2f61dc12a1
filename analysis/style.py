"""The look of every figure: one quiet style, and one colour and marker a family, the same everywhere.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; the markers say the same without colour.
Only fonts that matplotlib brings along are used, so that a figure is the same bytes on every machine.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from analysis import numbers

INK, QUIET = "#222222", "#6b6b6b"
WIDTH, HEIGHT = 3.6, 2.9
"""Inches: one column of a paper, and readable on a phone without zooming."""
LINE_HEIGHT = 10.0
"""Points between two direct labels."""
LABEL_WIDTH = 45.0

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "text.color": INK,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "analysis",
    "path.simplify": False,
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a family is drawn."""

    colour: str
    marker: str


LOOKS = {
    "dense": Look(colour="#555555", marker="o"),
    "moe": Look(colour="#D55E00", marker="s"),
    "memory_plus": Look(colour="#0072B2", marker="D"),
    "memory": Look(colour="#56B4E9", marker="^"),
    "pkm": Look(colour="#009E73", marker="v"),
    "peer": Look(colour="#CC79A7", marker="P"),
}
OTHER_LOOKS = (
    Look(colour="#E69F00", marker="X"),
    Look(colour="#8C6D31", marker="h"),
    Look(colour="#000000", marker="<"),
)


def look(family: str) -> Look:
    """The family's look; families this code does not know share three more, by a hash of their name."""
    return LOOKS.get(family) or OTHER_LOOKS[zlib.crc32(family.encode()) % len(OTHER_LOOKS)]


@contextmanager
def styled() -> Iterator[None]:
    """Draw inside this: the style holds whatever a matplotlibrc says, and nobody else's settings are touched."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def panel(*, height: float = HEIGHT, left: float = 0.55, right: float = 0.62) -> tuple[Figure, Axes]:
    """A figure with one set of axes; margins in inches (on the right there is room for direct labels)."""
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)
    bottom, top = 0.45, 0.12
    box = (left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (bottom + top) / height)
    return figure, figure.add_axes(box)


def log_axis(
    axes: Axes, which: str, lower: float, upper: float, text: Callable[[float], str] | None = None, *, most: int = 5
) -> None:
    """A logarithmic axis from lower to upper with a few labelled ticks at round numbers and no other ticks."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(lower, upper)
    set_ticks(axes, which, log_ticks(lower, upper, most), text)


def set_ticks(axes: Axes, which: str, ticks: Sequence[float], text: Callable[[float], str] | None = None) -> None:
    """These ticks and no others; without `text` as plain numbers, all with as many decimals as the longest needs."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(list(ticks)))
    words = [text(tick) for tick in ticks] if text else _plain(ticks)
    axis.set_major_formatter(FixedFormatter(words))
    axis.set_minor_locator(NullLocator())


def _plain(ticks: Sequence[float]) -> list[str]:
    """The ticks as plain numbers; even ones share their number of decimals, those over several decades do not."""
    words = [f"{tick:.4g}" for tick in ticks]
    if max(ticks) < 10 * min(ticks):
        decimals = max(len(word.partition(".")[2]) for word in words)
        words = [numbers.fixed(tick, decimals) for tick in ticks]
    return words


def log_ticks(lower: float, upper: float, most: int) -> list[float]:
    """Round numbers inside [lower, upper], at most `most`: of the finest set of leading digits that fits."""
    digit_sets = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))
    exponents = range(math.floor(math.log10(lower)), math.ceil(math.log10(upper)) + 1)
    for digits in digit_sets:
        ticks = [float(f"{digit}e{exponent}") for exponent in exponents for digit in digits]
        inside = [tick for tick in ticks if lower <= tick <= upper]
        if 3 <= len(inside) <= most:
            return inside
    if upper / lower < 10:
        even = MaxNLocator(nbins=most - 1, steps=[1, 2, 2.5, 5, 10]).tick_values(lower, upper)
        return [float(tick) for tick in even if lower <= tick <= upper]
    decades = [10.0**exponent for exponent in exponents if lower <= 10.0**exponent <= upper]
    return decades[:: max(1, math.ceil(len(decades) / most))]


def padded(low: float, high: float, share: float, *, least: float = 1.02) -> tuple[float, float]:
    """The range widened on a log axis by `share` of its length on both sides, at least by a factor of `least`."""
    pad = max(math.log(high / low) * share, math.log(least))
    return low * math.exp(-pad), high * math.exp(pad)


@dataclass(frozen=True, kw_only=True)
class Label:
    """A direct label and the point it belongs to."""

    text: str
    colour: str
    x: float
    y: float
    quiet: bool = False


def label_ends(axes: Axes, ends: Sequence[tuple[str, float, float]], *, note: Label | None = None) -> None:
    """Write each family's name to the right of its last point (family, x, y).

    Labels that would touch stand in one column and are moved apart, inside the height of the axes.
    """
    labels = [Label(text=numbers.family(name), colour=look(name).colour, x=x, y=y) for name, x, y in ends]
    labels = sorted([*labels, note] if note else labels, key=lambda one: (one.y, one.text))
    points = 72 / axes.figure.dpi
    at = [axes.transData.transform((one.x, one.y)) * points for one in labels]
    bottom, top = (float(axes.transAxes.transform((0, edge))[1]) * points for edge in (0, 1))
    columns = _columns([float(place[0]) for place in at])
    heights = [float(place[1]) for place in at]
    for _ in range(200):
        for low in range(len(labels)):
            for high in range(low + 1, len(labels)):
                lack = LINE_HEIGHT - (heights[high] - heights[low])
                if columns[low] == columns[high] and lack > 0.01:
                    heights[low] -= lack / 2
                    heights[high] += lack / 2
        heights = [min(max(height, bottom + 3), top - 3) for height in heights]
    for one, place, column, height in zip(labels, at, columns, heights, strict=True):
        axes.annotate(
            one.text,
            (one.x, one.y),
            xytext=(7 + column - float(place[0]), height - float(place[1])),
            textcoords="offset points",
            color=one.colour,
            va="center",
            ha="left",
            fontweight="normal" if one.quiet else "bold",
            fontsize=7 if one.quiet else 8,
            annotation_clip=False,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )


def _columns(places: Sequence[float]) -> list[float]:
    """Where each label starts, in points: those less than a label's width apart start together, at the rightmost."""
    columns = {}
    group: list[float] = []
    for place in [*sorted(set(places)), math.inf]:
        if group and place - group[-1] > LABEL_WIDTH:
            columns.update(dict.fromkeys(group, group[-1]))
            group = []
        group.append(place)
    return [columns[place] for place in places]


def png(figure: Figure) -> bytes:
    return _saved(figure, "png", dpi=200, metadata={"Software": None})


def pdf(figure: Figure) -> bytes:
    return _saved(figure, "pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})


def svg(figure: Figure) -> bytes:
    return _saved(figure, "svg", metadata={"Date": None, "Creator": None})


def _saved(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()
