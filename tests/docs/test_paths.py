"""What the documents name is there: files, modules, make's targets."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
_FOLDERS = ("memscale", "analysis", "sweeps", "docker", "tests", "benchmarks", "docs", ".ci")
_PATH = re.compile(rf"^(?:{'|'.join(map(re.escape, _FOLDERS))})/[\w./*-]*$")
_MODULE = re.compile(r"^(?:memscale|analysis)(?:\.\w+)+$")
_CODE = re.compile(r"`([^`\n]+)`")


def _code(page: Path) -> list[str]:
    """The code spans of a page, and the lines of its code blocks."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"(?ms)^```.*?\n(.*?)^```", text) for line in block.split("\n")]
    return [*_CODE.findall(re.sub(r"(?ms)^```.*?^```", "", text)), *lines]


def _words(page: Path) -> list[str]:
    return [word.strip("(),;:") for code in _code(page) for word in code.split()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_paths_of_a_page_exist(page: Path) -> None:
    named = {word for word in _words(page) if _PATH.match(word)}
    named = {word for word in named if not word.startswith(("docs/_build", "docs/reference")) and "NAME" not in word}
    missing = {word for word in named if not list(ROOT.glob(word.rstrip("/.")))}
    assert missing == set(), f"{page.name} names what is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_modules_and_names_of_a_page_exist(page: Path) -> None:
    for word in sorted({word for word in _words(page) if _MODULE.match(word)}):
        assert _resolves(word), f"{page.name} names {word}"


def _resolves(word: str) -> bool:
    """Whether a dotted name is a module, or a name in one."""
    parts = word.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if (ROOT / Path(*parts[:length])).is_dir() or (ROOT / Path(*parts[:length])).with_suffix(".py").is_file():
            value: object = importlib.import_module(name)
            for part in parts[length:]:
                if not hasattr(value, part):
                    return False
                value = getattr(value, part)
            return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_targets_of_make_that_a_page_names_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?m)^([a-z-]+):.*## ", makefile))
    named = set(re.findall(r"(?:`|^|\s)make ([a-z-]+)(?=[`\s]|$)", " ".join(f"`{x}`" for x in _code(page))))
    assert named <= targets, f"{page.name} names targets that the Makefile lacks"


def test_every_page_is_in_the_site() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").split()
    for page in (ROOT / "docs").glob("[!_]*.md"):
        assert page.stem in {*index, "index"}, f"{page} is in no toctree of docs/index.md"
