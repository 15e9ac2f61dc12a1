"""`make docs`: the site is built without a warning, has every page and module, and every link in it leads somewhere."""

from __future__ import annotations

import html.parser
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("furo", reason="the extra `docs` is not installed; it needs Python 3.11")
pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))
from site_reference import public_modules  # noqa: E402


class _Page(html.parser.HTMLParser):
    """What a page names and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.update(value for name in ("id", "name") if (value := given.get(name)))
        if tag == "a" and (link := given.get("href")):
            self.links.add(link)
        for name in ("src", "href"):
            if tag in ("script", "link", "img", "iframe", "source") and (link := given.get(name)):
                self.loaded.add(link)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(folder / "doctrees")]
    done = subprocess.run([*command, str(DOCS), str(folder / "html")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Page]:
    return {file: _Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")}


def test_every_document_and_every_public_module_is_there(pages: dict[Path, _Page], site: Path) -> None:
    for source in [*DOCS.glob("[!_]*.md"), *DOCS.glob("*.ipynb")]:
        assert site / f"{source.stem}.html" in pages
    anchors = {anchor for page in pages.values() for anchor in page.anchors}
    modules = {module for each in public_modules().values() for module in each}
    assert {f"module-{module}" for module in modules} <= anchors


def test_every_link_leads_to_a_page_and_a_place_in_it(pages: dict[Path, _Page]) -> None:
    broken = []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto"):
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.is_file():
                broken.append(f"{file.name}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                broken.append(f"{file.name}: {link} (no such place)")
    assert broken == []


def test_what_a_page_loads_lies_beside_it(pages: dict[Path, _Page]) -> None:
    """Nothing is fetched from elsewhere, so that the site can be read without a network."""
    for file, page in pages.items():
        for link in page.loaded:
            parts = urlsplit(link)
            assert not parts.netloc, f"{file.name} loads {link}"
            if parts.scheme != "data" and parts.path:
                assert (file.parent / unquote(parts.path)).is_file(), f"{file.name} loads {link}"


def test_the_tutorial_was_executed(site: Path) -> None:
    text = (site / "tutorial.html").read_text(encoding="utf-8")
    assert "<img" in text
    assert text.count('class="cell_output') > 5
