"""The colour, marker and dashes of each series: a fixed colour for each family, shades of it for its other series.

Colours are Okabe and Ito's, which colour-blind readers can distinguish (wine is Paul Tol's); markers distinguish series
without colour. The reference series of a family has the family's colour and marker. The other series have shades from
light to dark in the order of the table, each with another marker and every third with an unbroken line.
"""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.tables.runs import Runs


@dataclass(frozen=True, kw_only=True)
class SeriesStyle:
    """How a series is drawn."""

    colour: str
    marker: str
    dashes: tuple[float, ...] = ()
    """Lengths of strokes and gaps in line widths; empty: an unbroken line."""

    @property
    def line(self) -> tuple[float, tuple[float, ...]] | str:
        """As matplotlib writes a line's style."""
        return (0, self.dashes) if self.dashes else "-"


FAMILY_STYLES = {
    "dense": SeriesStyle(colour="#555555", marker="o"),
    "moe": SeriesStyle(colour="#D55E00", marker="s"),
    "memory_plus": SeriesStyle(colour="#0072B2", marker="D"),
    "memory": SeriesStyle(colour="#56B4E9", marker="^"),
    "pkm": SeriesStyle(colour="#009E73", marker="v"),
    "peer": SeriesStyle(colour="#CC79A7", marker="P"),
    "ngram": SeriesStyle(colour="#7A3B9A", marker="p"),
    "token_table": SeriesStyle(colour="#B5A000", marker="*"),
    "mixture": SeriesStyle(colour="#A1122D", marker=">"),
    "looped": SeriesStyle(colour="#2F4B7C", marker="d"),
}
OTHER_STYLES = (
    SeriesStyle(colour="#E69F00", marker="X"),
    SeriesStyle(colour="#8C6D31", marker="h"),
    SeriesStyle(colour="#000000", marker="<"),
)
MARKERS = ("o", "s", "^", "v", "P", "X", "<", ">", "h", "p", "*", "d")
DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1.2, 1.2))
LIGHTEST, DARKEST = 0.72, 0.2
"""Lightness of the lightest shade, still visible on white, and of the darkest, still distinct from black."""


def family_style(family: str) -> SeriesStyle:
    """The style of a family; a family that is not in `FAMILY_STYLES` gets one of three others by a hash of its name."""
    return FAMILY_STYLES.get(family) or OTHER_STYLES[zlib.crc32(family.encode()) % len(OTHER_STYLES)]


def series_styles(runs: Runs) -> dict[str, SeriesStyle]:
    """The style of every series of a table."""
    found = {}
    for family in runs.families:
        mark, labels = family_style(family), runs.series_of(family)
        others = tuple(marker for marker in MARKERS if marker != mark.marker)
        colours = shades(mark.colour, len(labels) - 1)
        found[labels[0]] = mark
        for number, label in enumerate(labels[1:]):
            found[label] = SeriesStyle(
                colour=colours[number],
                marker=others[number % len(others)],
                dashes=DASHES[(number + 1) % len(DASHES)],
            )
    return {label: found[label] for label in runs.labels}


def shades(colour: str, count: int) -> tuple[str, ...]:
    """`count` shades of a colour, from light to dark, all different from the colour itself."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    steps = [LIGHTEST + (DARKEST - LIGHTEST) * place for place in _places(count)]
    # a shade too close to the colour itself is made lighter or darker
    moved = [step + (0.06 if step >= lightness else -0.06) if abs(step - lightness) < 0.06 else step for step in steps]
    return tuple(_hex(colorsys.hls_to_rgb(hue, step, saturation)) for step in moved)


def _places(count: int) -> Sequence[float]:
    return [0.5] if count == 1 else [number / (count - 1) for number in range(count)]


def _hex(colour: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * min(max(part, 0.0), 1.0)):02X}" for part in colour)
