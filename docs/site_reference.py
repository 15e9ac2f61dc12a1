"""The reference of the site: a page for each package of memscale and analysis, with all its public modules.

The pages are written to docs/reference/ when a site is built. Docstrings here are plain text with code in single
backquotes; they are turned into reStructuredText on the way.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
PACKAGES = ("memscale", "analysis")
_CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)
_ITEM = re.compile(r"\s*(?:[-*]|\d+\.) ")
_SPECIAL = re.compile(r"(?<!^)(?<!\n)([*|])|(?<=\w)(_)(?!\w)|^([*|])(?! )", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect what is below to Sphinx."""
    app.connect("builder-inited", _write_pages)
    app.connect("autodoc-process-docstring", _to_restructured_text, priority=100)  # before napoleon reads sections
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def public_modules() -> dict[str, list[str]]:
    """The public modules of every package, itself first, by the package's name."""
    found: dict[str, list[str]] = {}
    for top in PACKAGES:
        for file in sorted((ROOT / top).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            if any(part.startswith("_") and part != "__init__" for part in parts):
                continue
            package = ".".join(parts[:-1])
            modules = found.setdefault(package, [package])
            if parts[-1] != "__init__":
                modules.append(".".join(parts))
    return found


def _write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "reference"
    folder.mkdir(exist_ok=True)
    pages = {package: _page(package, modules) for package, modules in public_modules().items()}
    for old in folder.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for package, text in pages.items():
        file = folder / f"{package}.rst"
        if not file.exists() or file.read_text(encoding="utf-8") != text:  # Sphinx reads again what is newer
            file.write_text(text, encoding="utf-8")


def _page(package: str, modules: list[str]) -> str:
    lines = [package, "=" * len(package), ""]
    for module in modules:
        if module != package:
            lines += [module, "-" * len(module), ""]
        lines += [f".. automodule:: {module}", ""]
    return "\n".join(lines)


def _to_restructured_text(*given: Any) -> None:
    """Write a docstring as reStructuredText, in place, as Sphinx wants it: code, lists, tables, and no other markup."""
    lines: list[str] = given[-1]
    if given[1] in ("attribute", "data", "property"):
        lines.insert(0, "")  # else napoleon takes what stands before a colon for a type
    literal = False
    written: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", "\n".join(lines)):
        text, prompt, example = paragraph.partition(">>>")
        if not (literal and text.startswith(" ")):
            text = _table(text) if _is_table(text) else _marked(text)
        literal = text.rstrip().endswith("::")
        written.append(f"{text}{prompt}{example}")
    lines[:] = "\n\n".join(written).split("\n")


def _marked(paragraph: str) -> str:
    """`code` becomes ``code``, what else reStructuredText would take for markup is escaped, a list stands by itself."""
    text = "".join(
        f"``{part.strip('`')}``" if part.startswith("`") else _SPECIAL.sub(r"\\\1\2\3", part)
        for part in _CODE.split(paragraph)
    )
    lines = text.split("\n")
    first = next((number for number, line in enumerate(lines) if _ITEM.match(line)), 0)
    return "\n".join([*lines[:first], "", *lines[first:]]) if first else text


def _is_table(paragraph: str) -> bool:
    lines = paragraph.split("\n")
    return len(lines) > 2 and all(line.strip().startswith("|") for line in lines)


def _table(paragraph: str) -> str:
    """A table of Markdown as one of reStructuredText."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in paragraph.split("\n")]
    written = [".. list-table::", "   :header-rows: 1", ""]
    for row in [rows[0], *rows[2:]]:
        for place, cell in enumerate(row):
            written.append(f"   {'  ' if place else '* '}- {_marked(cell)}")
    return "\n".join(written)
