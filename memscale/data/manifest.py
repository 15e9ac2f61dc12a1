"""The manifest of a folder of prepared data: digests, counts, sources, and the checksum of every file.

It is written last, so a folder with a manifest is complete. Refuses a folder whose files differ from it, and says how
to build it again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memscale.config.codec import from_plain
from memscale.config.run import Digests
from memscale.data.fingerprint import sha256
from memscale.errors import ConfigError, DataError, RecordError
from memscale.records.atomic import read_json, write_json

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
class PreparedSource:
    """One source of the prepared data."""

    name: str
    kind: str
    weight: float
    train: SplitCounts
    validation: SplitCounts


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of the folder; `path` is relative to it."""

    path: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of manifest.json."""

    digests: Digests
    vocab_size: int
    dtype: str
    """NumPy name of the integer type in the token files."""
    knowledge_bits: float | None
    """Entropy of the facts in bits; None without facts."""
    validation_tokens: int
    sources: tuple[PreparedSource, ...]
    evaluation_sets: tuple[str, ...]
    files: tuple[File, ...]
    versions: tuple[str, ...]
    """'package version' of the packages that prepared the data."""
    seconds: float
    """Duration of the preparation."""


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of `folder`."""
    write_json(folder / NAME, asdict(manifest), format=FORMAT)


def read(folder: Path) -> Manifest:
    """Read the manifest and compare the sizes of all files with it.

    Raises DataError, which names the file and how to build the data again.
    """
    try:
        content: dict[str, Any] = read_json(folder / NAME, format=FORMAT)
        del content["format"]
        manifest = from_plain(Manifest, content)
    except (RecordError, ConfigError) as error:
        raise DataError(f"{error}. {_how_to_rebuild(folder)}") from None
    for file in manifest.files:
        path = folder / file.path
        found = path.stat().st_size if path.is_file() else None
        if found != file.num_bytes:
            there = "is missing" if found is None else f"has {found} bytes"
            raise DataError(f"{path} {there}; prepared data need it with {file.num_bytes}. {_how_to_rebuild(folder)}")
    return manifest


def verify(folder: Path, manifest: Manifest) -> None:
    """Read every file and compare its checksum with the manifest. Raises DataError."""
    for file in manifest.files:
        found = sha256(folder / file.path)
        if found != file.sha256:
            raise DataError(
                f"{folder / file.path} has SHA-256 {found[:12]}...; it was written with {file.sha256[:12]}.... "
                f"{_how_to_rebuild(folder)}"
            )


def describe_file(folder: Path, path: Path) -> File:
    """Return the manifest entry of a finished file."""
    return File(path=path.relative_to(folder).as_posix(), num_bytes=path.stat().st_size, sha256=sha256(path))


def _how_to_rebuild(folder: Path) -> str:
    return f"Prepared data can be built again: rm -r '{folder}', then run the same command once more"
