"""Where the data of published fits come from, and where they are looked for.

A file is looked for in the folder given (or $MEMSCALE_DATA_DIR, or shared/data beside the project), in its folder
`published`; then in the cache, where a file that was downloaded lies; then it is downloaded from its original place,
where there is one. What is downloaded must have the digest it had when the fits were made, else it is refused: other
data give other answers. A file that is nowhere is named with how to get it, and the others are still reproduced.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import TableError
from analysis.tables import atomic_write

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file."""

    name: str
    sha256: str
    origin: str
    """Repository, path and commit, for people."""
    url: str | None = None
    """None: the file was made from its origin, and cannot be downloaded as it is."""


CHINCHILLA = Source(
    name="epoch_chinchilla_svg_extracted.csv",
    sha256="193478df4e90f040016431996c45682659306840ecdadf83cfb9cd5ca0aa1b30",
    origin="epoch-research/analyzing-chinchilla, data/svg_extracted_data.csv at 9225883",
    url="https://raw.githubusercontent.com/epoch-research/analyzing-chinchilla/9225883/data/svg_extracted_data.csv",
)
ISOFLOPS = Source(
    name="openathena_isoflops.csv",
    sha256="b04d611253611490c5cc339fb95cb28d4f38f279a97438cb804a80f03171caa0",
    origin="Open-Athena/scaling-law-analysis, data/isoflops/transform/isoflops.csv at 3e0656e",
    url="https://raw.githubusercontent.com/Open-Athena/scaling-law-analysis/3e0656e/data/isoflops/transform/isoflops.csv",
)
ROUTING = Source(
    name="deepmind_routing_curves.csv.gz",
    sha256="c03e7531add85e594f368d33bac4a0220280be858a7ed12d147cf73af6a3819f",
    origin="google-deepmind/scaling_laws_for_routing, data/curves.csv.gz at 42da0c3",
    url="https://raw.githubusercontent.com/google-deepmind/scaling_laws_for_routing/42da0c3/data/curves.csv.gz",
)
TESTBED = Source(
    name="gadre_scaling_testbed_104.csv",
    sha256="84e2ec6dd1850c5dd0bd2cf06f38927b90dabb5ebe753997b8e58a58fac8ace1",
    origin="mlfoundations/scaling, exp_data/ at a003c49: its 104 models' losses and errors, one row a model",
)
MEMORY_FIGURE = Source(
    name="memory_layers_fig1_digitized.csv",
    sha256="6d8818285c326cb940a933f5508a28e01839a7e826cd60d52daf0018d705d8bc",
    origin="facebookresearch/memory, memory_scaling_figure.png at 7f85280, read off by hand",
)


class MissingError(TableError):
    """A published file that is not at hand and cannot be had from here."""


def find(source: Source, folder: Path | None = None, *, cache: Path | None = None, download: bool = True) -> Path:
    """The file's path. Raises MissingError with how to get it."""
    cache = cache or _cache()
    for path in (*(place / source.name for place in _folders(folder)), cache / source.name):
        if path.is_file():
            return path
    how = f"get it from {source.origin}, and put it as {source.name} into $MEMSCALE_DATA_DIR/published"
    if source.url is None or not download:
        raise MissingError(f"{source.name} is not at hand: {how}")
    try:
        with urllib.request.urlopen(source.url, timeout=TIMEOUT_SECONDS) as answer:
            content: bytes = answer.read()
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise MissingError(f"{source.name} is not at hand and cannot be downloaded ({error}): {how}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != source.sha256:
        raise MissingError(
            f"{source.url} has the digest {digest[:12]}..., and the file that was fitted has {source.sha256[:12]}...:"
            f" the data have changed; {how}"
        )
    return atomic_write.write(cache / source.name, content)


def _folders(given: Path | None) -> list[Path]:
    if given is not None:
        return [given / "published", given]
    named = os.environ.get("MEMSCALE_DATA_DIR")
    beside = Path(__file__).parents[3] / "shared" / "data"
    return [folder / "published" for folder in ((Path(named),) if named else (beside, Path("shared/data")))]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "memscale" / "published"
