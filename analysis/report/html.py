"""HTML in small pieces; every text that comes from outside is escaped here and nowhere else."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from analysis import formatting

__all__ = [
    "Cell",
    "escape",
    "figure",
    "heading",
    "inline",
    "listed",
    "named",
    "paragraph",
    "section",
    "table",
    "words",
]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Ready-made HTML for a table's cell; a plain string is escaped instead."""

    html: str
    text: bool = False
    """Words: set to the left."""
    wrap: bool = False
    heading: bool = False
    """Spans the table: a title above the rows that follow."""


def inline(text: str) -> str:
    """Escaped text with powers set as such: fonts draw the superscript digits of Unicode unevenly."""

    def raised(found: re.Match[str]) -> str:
        return f"{found[1]}<sup>{found[2].translate(PLAIN_DIGITS).replace('-', formatting.MINUS)}</sup>"

    powers = re.sub("([0-9])([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)", raised, escape(text))
    return powers.replace("x^-alpha", f"x<sup>{formatting.MINUS}&alpha;</sup>")


PLAIN_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def heading(text: str) -> Cell:
    """A title that spans the table."""
    return Cell(html=inline(text), heading=True)


def named(name: str, colour: str) -> Cell:
    """The name of a series or a family, in its colour."""
    return Cell(html=f'<span class="family" style="color:{escape(colour)}">{inline(name)}</span>', text=True)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str | Cell]],
    *,
    caption: str = "",
    strong: frozenset[int] = frozenset(),
    ruled: frozenset[int] = frozenset(),
) -> str:
    """A table that scrolls sideways on narrow screens; `strong` rows are bold, `ruled` ones have a line above."""
    first = next((row for row in rows if len(row) == len(head)), [""] * len(head))
    titles = "".join(_title(title, cell) for title, cell in zip(head, first, strict=True))
    body = []
    for number, row in enumerate(rows):
        kind = " ".join(name for name, chosen in (("strong", strong), ("rule", ruled)) if number in chosen)
        body.append(f'<tr class="{kind}">' if kind else "<tr>")
        body.append("".join(_cell(cell, len(head)) for cell in row) + "</tr>")
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    lines = "\n".join(body)
    inside = f"{above}<thead><tr>{titles}</tr></thead>\n<tbody>\n{lines}\n</tbody>"
    return f"<div class=scroll tabindex=0><table>{inside}</table></div>"


def _title(title: str, cell: str | Cell) -> str:
    kind = " class=text" if isinstance(cell, Cell) and cell.text else ""
    return f"<th scope=col{kind}>{inline(title)}</th>"


def _cell(cell: str | Cell, num_columns: int) -> str:
    if isinstance(cell, str):
        return f"<td>{inline(cell)}</td>"
    if cell.heading:
        return f"<th class=over scope=rowgroup colspan={num_columns}>{cell.html}</th>"
    kind = " ".join(name for name, chosen in (("text", cell.text), ("wrap", cell.wrap)) if chosen)
    return f'<td class="{kind}">{cell.html}</td>' if kind else f"<td>{cell.html}</td>"


def words(text: str, *, wrap: bool = False) -> Cell:
    """A cell of words, set to the left."""
    return Cell(html=inline(text), text=True, wrap=wrap)


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph with inline marks; `kind` is its class in the style sheet."""
    return f'<p class="{kind}">{inline(text)}</p>' if kind else f"<p>{inline(text)}</p>"


def listed(items: Sequence[str]) -> str:
    """A list of items with inline marks."""
    return "<ul>\n" + "\n".join(f"<li>{inline(item)}</li>" for item in items) + "\n</ul>"


def section(title: str, *parts: str) -> str:
    """A section; empty parts are left out."""
    return "\n".join([f"<section>\n<h2>{escape(title)}</h2>", *(part for part in parts if part), "</section>"])


def figure(svg: bytes, title: str, caption: str) -> str:
    """A figure as an image inside the page: no id of one drawing can meet another's."""
    data = base64.b64encode(svg).decode()
    return (
        f'<figure><img alt="{escape(title)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption><b>{inline(title)}.</b> {inline(caption)}</figcaption></figure>"
    )
