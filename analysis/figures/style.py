"""The style of all figures: axes, margins, ticks, and names of series as direct labels or as a legend below.

Only fonts that come with matplotlib are used, so that a figure has the same bytes on every machine.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from analysis import formatting
from analysis.figures.palette import SeriesStyle

INK, QUIET = "#222222", "#6b6b6b"
WIDTH, HEIGHT = 3.6, 2.9
"""Inches: one column of a paper, and readable on a phone without zooming."""
LINE_HEIGHT = 10.0
"""Distance between two direct labels, in typographic points."""
LABEL_WIDTH = 45.0
"""Direct labels whose points are closer than this many typographic points are in one column."""

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


@contextmanager
def styled() -> Iterator[None]:
    """A context with the style of these figures, whatever a matplotlibrc sets; settings are restored at its end."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def panel(**margins: float) -> tuple[Figure, Axes]:
    """A figure with a single set of axes; see `panels`."""
    figure, (axes,) = panels(1, **margins)
    return figure, axes


def panels(
    count: int,
    *,
    width: float = WIDTH,
    height: float = HEIGHT,
    left: float = 0.55,
    right: float = 0.62,
    top: float = 0.12,
    below: float = 0.0,
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` sets of axes above each other.

    Lengths are in inches. `right` leaves room for direct labels, `below` for a legend; each set of axes has `height`
    with its margins.
    """
    bottom, whole = 0.45, count * height + below
    figure = Figure(figsize=(width, whole))
    FigureCanvasAgg(figure)
    box = (1 - (left + right) / width, (height - bottom - top) / whole)
    feet = [(below + bottom + (count - 1 - at) * height) / whole for at in range(count)]
    return figure, [figure.add_axes((left / width, foot, *box)) for foot in feet]


def text_width(texts: Iterable[str], size: float) -> float:
    """About the width of the longest of these texts in inches, at a font size in points."""
    return max((len(text) for text in texts), default=0) * size * 0.6 / 72


def log_axis(
    axes: Axes, which: str, lower: float, upper: float, text: Callable[[float], str] | None = None, *, most: int = 5
) -> None:
    """A logarithmic axis from lower to upper with a few labelled ticks at round numbers and no other ticks."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(lower, upper)
    set_ticks(axes, which, log_ticks(lower, upper, most), text)


def set_ticks(axes: Axes, which: str, ticks: Sequence[float], text: Callable[[float], str] | None = None) -> None:
    """Set exactly these ticks; without `text` their labels are plain numbers with equal numbers of decimals."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(list(ticks)))
    words = [text(tick) for tick in ticks] if text else _plain(ticks)
    axis.set_major_formatter(FixedFormatter(words))
    axis.set_minor_locator(NullLocator())


def _plain(ticks: Sequence[float]) -> list[str]:
    """The ticks as plain numbers; with equal numbers of decimals if they span less than a decade."""
    words = [
        f"{tick:.0f}" if 1e4 <= tick < 1e6 else formatting.power(tick) if tick >= 1e6 else f"{tick:.4g}"
        for tick in ticks
    ]
    if max(ticks) < 10 * min(ticks) and max(ticks) < 1e4:
        decimals = max(len(word.partition(".")[2]) for word in words)
        words = [formatting.fixed(tick, decimals) for tick in ticks]
    return words


def log_ticks(lower: float, upper: float, most: int) -> list[float]:
    """At most `most` round numbers inside [lower, upper], with the finest set of leading digits that fits."""
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


MOST_DIRECT, LONGEST_DIRECT = 6, 9
"""With more series or a longer name, a legend names the series."""
NOTE_WIDTH = 40.0
"""Typographic points between notes beside a legend."""
LEGEND_ROW = 0.14
"""Inches."""


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Names the series of a figure, at the ends of their lines or in a legend below the axes."""

    names: Mapping[str, str]
    """By series."""
    styles: Mapping[str, SeriesStyle]

    @property
    def direct(self) -> bool:
        """Whether the names are written beside their lines; else they are in a legend."""
        return len(self.names) <= MOST_DIRECT and max(map(len, self.names.values()), default=0) <= LONGEST_DIRECT

    @property
    def columns(self) -> int:
        """Number of columns of the legend."""
        return 1 if max(map(len, self.names.values()), default=0) > 24 else 2

    def margins(self, right: float = 0.62) -> dict[str, float]:
        """Margins of the panel: room for labels at the right, or for the legend below."""
        if self.direct:
            return {"right": right}
        return {"right": 0.15, "below": 0.05 + LEGEND_ROW * math.ceil(len(self.names) / self.columns)}

    def put(self, axes: Axes, ends: Sequence[tuple[str, float, float]], *, notes: Sequence[Label] = ()) -> None:
        """Name the series whose lines end at (series, x, y); `notes` are written beside their points in both cases."""
        if self.direct:
            labels = [Label(text=self.names[name], colour=self.styles[name].colour, x=x, y=y) for name, x, y in ends]
            put_labels(axes, [*labels, *notes])
            return
        for place, note in enumerate(notes):  # side by side, so that close levels do not hide each other's names
            axes.annotate(
                note.text, (note.x, note.y), xytext=(-2 - NOTE_WIDTH * place, 2), textcoords="offset points",
                ha="right", va="bottom", fontsize=6.5, color=note.colour,
            )  # fmt: skip
        shown = {name for name, _, _ in ends}
        handles = [
            Line2D([], [], color=self.styles[name].colour, marker=self.styles[name].marker, ls=self.styles[name].line,
                   lw=1.2, ms=4, mec="white", mew=0.4, label=text)
            for name, text in self.names.items() if name in shown
        ]  # fmt: skip
        figure = axes.get_figure()
        assert figure is not None
        figure.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0.02, 0.0), ncols=self.columns, frameon=False,
            fontsize=7, handlelength=2.2, columnspacing=1.2, labelspacing=0.35, borderaxespad=0.2,
        )  # fmt: skip


def naming(series: Sequence[str], styles: Mapping[str, SeriesStyle]) -> Naming:
    """The naming of these series in a figure."""
    return Naming(names={label: formatting.series(label) for label in series}, styles=styles)


def put_labels(axes: Axes, labels: Sequence[Label], *, width: float = LABEL_WIDTH) -> None:
    """Write each label to the right of its point.

    Labels whose points are less than `width` typographic points apart form a column, in which they are moved apart
    inside the height of the axes.
    """
    labels = sorted(labels, key=lambda one: (one.y, one.text))
    points = 72 / axes.figure.dpi
    at = [axes.transData.transform((one.x, one.y)) * points for one in labels]
    bottom, top = (float(axes.transAxes.transform((0, edge))[1]) * points for edge in (0, 1))
    columns = _columns([float(place[0]) for place in at], width)
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


def _columns(places: Sequence[float], width: float) -> list[float]:
    """The start of each label by the place of its point; places less than `width` apart share the rightmost."""
    columns = {}
    group: list[float] = []
    for place in [*sorted(set(places)), math.inf]:
        if group and place - group[-1] > width:
            columns.update(dict.fromkeys(group, group[-1]))
            group = []
        group.append(place)
    return [columns[place] for place in places]


def png(figure: Figure) -> bytes:
    """The figure as PNG, 200 dots per inch, the same bytes every time."""
    return _saved(figure, "png", dpi=200, metadata={"Software": None})


def pdf(figure: Figure) -> bytes:
    """The figure as PDF, the same bytes every time."""
    return _saved(figure, "pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})


def svg(figure: Figure) -> bytes:
    """The figure as SVG, the same bytes every time."""
    return _saved(figure, "svg", metadata={"Date": None, "Creator": None})


def _saved(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()
