"""A figure with its words and its data, and what every figure shows alike: one marker a run."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from analysis.figures import style
from analysis.figures.palette import SeriesStyle
from analysis.tables import atomic_write
from analysis.tables.runs import BoolArray, FloatArray, Runs

ENDINGS = (".png", ".pdf", ".csv")
COLUMNS = ("part", "series", "x", "y", "lower", "upper", "seed", "run")
DataRow = tuple[object, ...]
"""One point, in the order of COLUMNS."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure with its words and its data."""

    stem: str
    """Name of its files, without the ending."""
    title: str
    caption: str
    figure: Canvas
    rows: list[DataRow] = field(default_factory=list, repr=False)

    def csv(self) -> bytes:
        """The data as CSV; numbers with all their digits."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self.rows)
        return buffer.getvalue().encode()

    def files(self) -> dict[str, bytes]:
        """The picture for screens and for papers, and its data, by name."""
        made = (style.png(self.figure), style.pdf(self.figure), self.csv())
        return {self.stem + ending: content for ending, content in zip(ENDINGS, made, strict=True)}


def save(figures: Iterable[Figure], folder: Path) -> list[Path]:
    """Write every figure's files. Raises AnalysisError where the folder cannot be written."""
    figures = list(figures)
    assert all(re.fullmatch(r"\w[\w.-]*", one.stem) for one in figures), "no stem comes from a table"
    return [atomic_write.write(folder / name, content) for one in figures for name, content in one.files().items()]


def scatter(
    axes: Axes,
    runs: Runs,
    styles: Mapping[str, SeriesStyle],
    x_N: FloatArray,
    y_N: FloatArray,
    only: BoolArray | None = None,
) -> list[DataRow]:
    """One marker a run (of those in `only`); returns the data."""
    rows: list[DataRow] = []
    for label in runs.labels:
        mark, mask = styles[label], runs.of(label)
        chosen = np.flatnonzero(mask if only is None else mask & only)
        axes.plot(
            x_N[chosen], y_N[chosen], mark.marker, color=mark.colour, ms=4.2, mec="white", mew=0.5, zorder=3,
            clip_on=False,
        )  # fmt: skip
        rows += [("run", label, x_N[run], y_N[run], "", "", int(runs.seed[run]), runs.name[run]) for run in chosen]
    return rows
