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
    """Write `code` as ``code`` and escape what reStructuredText would take for markup; in place, as Sphinx wants it."""
    lines: list[str] = given[-1]
    paragraphs = re.split(r"(\n[ \t]*\n)", "\n".join(lines))
    literal = False
    for place, paragraph in enumerate(paragraphs):
        if not paragraph.strip():
            continue
        if paragraph.lstrip().startswith(">>>"):
            continue
        if literal and paragraph.startswith(" "):
            continue
        literal = paragraph.rstrip().endswith("::")
        paragraphs[place] = "".join(
            f"``{part.strip('`')}``" if part.startswith("`") else _SPECIAL.sub(r"\\\1\2\3", part)
            for part in _CODE.split(paragraph)
        )
    lines[:] = "".join(paragraphs).split("\n")
