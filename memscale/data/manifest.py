"""The manifest of a folder of prepared data: digests, counts, sources, and the checksum of every file.

It is written last, so a folder with a manifest is complete. Beside each token file lies one with the digests of its
blocks, `<token file>.blocks`, so that a large file can be checked by the blocks that are read. `read` refuses a folder
whose files differ from the manifest in their sizes, and says how to build it again; `memscale.data.verification` reads
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memscale.config.codec import from_plain
from memscale.config.data import Data
from memscale.config.names import RUN_NAME, FolderName, check_name
from memscale.config.ranges import Checked
from memscale.config.run import Digests
from memscale.data.bad_rows import SkippedRows
from memscale.data.blocks import BLOCK_BYTES, BLOCKS, block_digests
from memscale.data.fingerprint import sha256
from memscale.errors import ConfigError, DataError, RecordError
from memscale.records.seal import read_sealed, write_sealed

FORMAT = 1
NAME = "manifest.json"
SPLITS = ("train", "validation")


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """The size of one split of a source."""

    num_documents: int
    num_tokens: int
    """Number of tokens, including one end token per document."""
    num_bytes: int
    """UTF-8 bytes of text."""


@dataclass(frozen=True, kw_only=True)
class PreparedSource(Checked):
    """One source of the prepared data."""

    name: FolderName
    kind: str
    weight: float
    train: SplitCounts
    validation: SplitCounts
    skipped: tuple[SkippedRows, ...] = ()
    """Rows that were left out, by reason (`on_bad_rows: skip`)."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of the folder; `path` is relative to it. Raises ConfigError where it leads out of it."""

    path: str
    num_bytes: int
    sha256: str
    block_bytes: int | None = None
    """Size of the blocks whose digests its `.blocks` file holds; None: it has none."""

    def __post_init__(self) -> None:
        for part in self.path.split("/"):
            check_name("path", part, RUN_NAME)


@dataclass(frozen=True, kw_only=True)
class Manifest(Checked):
    """The content of manifest.json."""

    digests: Digests
    vocab_size: int
    dtype: str
    """NumPy name of the integer type in the token files."""
    knowledge_bits: float | None
    """Entropy of the facts in bits; None without facts."""
    validation_tokens: int
    sources: tuple[PreparedSource, ...]
    evaluation_sets: tuple[FolderName, ...]
    files: tuple[File, ...]
    versions: tuple[str, ...]
    """'package version' of the packages that prepared the data."""
    seconds: float
    """Duration of the preparation."""


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of `folder`."""
    write_sealed(folder / NAME, asdict(manifest), format=FORMAT)


def read(folder: Path) -> Manifest:
    """Read the manifest and compare the sizes of all files with it.

    Raises DataError, which names the file and how to build the data again.
    """
    try:
        content: dict[str, Any] = read_sealed(folder / NAME, format=FORMAT)[0]
        del content["format"]
        manifest = from_plain(Manifest, content)
    except (RecordError, ConfigError) as error:
        raise DataError(f"{error}. {how_to_rebuild(folder)}") from None
    for file in manifest.files:
        path = folder / file.path
        found = path.stat().st_size if path.is_file() else None
        if found != file.num_bytes:
            there = "is missing" if found is None else f"has {found} bytes"
            raise DataError(f"{path} {there}; prepared data need it with {file.num_bytes}. {how_to_rebuild(folder)}")
    return manifest


def describe_files(folder: Path, paths: Iterable[Path]) -> Iterator[File]:
    """Yield the manifest entries of finished files; write the digests of the blocks of token files beside them."""
    for path in paths:
        name, num_bytes = path.relative_to(folder).as_posix(), path.stat().st_size
        if path.suffix != ".bin":
            yield File(path=name, num_bytes=num_bytes, sha256=sha256(path))
            continue
        whole, blocks = block_digests(path)
        beside = path.with_name(path.name + BLOCKS)
        beside.write_bytes(blocks)
        yield File(path=name, num_bytes=num_bytes, sha256=whole, block_bytes=BLOCK_BYTES)
        yield File(path=name + BLOCKS, num_bytes=len(blocks), sha256=sha256(beside))


def skipped_notes(data: Data, folder: Path) -> tuple[str, ...]:
    """Return a sentence for each source of `data` that leaves rows out, for the plan and the report.

    Args:
        data: The mixture.
        folder: The folder of its prepared data, which may not be there yet.

    Raises:
        DataError: The folder's manifest is damaged.
    """
    skipping = [source.name for source in data.sources if getattr(source, "on_bad_rows", "refuse") == "skip"]
    if not skipping:
        return ()
    if not (folder / NAME).exists():
        return tuple(
            f"data.sources.{name} leaves rows without usable text out (on_bad_rows: skip); how many is known when the "
            "data are prepared"
            for name in skipping
        )
    return tuple(
        f"data.sources.{source.name} left rows out (on_bad_rows: skip): {'; '.join(map(str, source.skipped)) or 'none'}"
        for source in read(folder).sources
        if source.name in skipping
    )


def how_to_rebuild(folder: Path) -> str:
    """Return what a person does about a damaged folder, for a message."""
    return f"Prepared data can be built again: rm -r '{folder}', then run the same command once more"
