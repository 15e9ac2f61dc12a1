"""One interface for every kind of source: training documents and held-out documents, equal at every call.

A new kind of source needs a class in `memscale.config.data` and one case in `_texts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

from memscale.config.data import Data, DenseFacts, Facts, Hub, PythonStdlib, Source, TextFiles
from memscale.data import hub, python_stdlib, text_files
from memscale.data.bad_rows import RowPolicy, SkippedRows
from memscale.data.dense_facts import DenseEntries
from memscale.data.facts import People
from memscale.data.split import HashSplit
from memscale.errors import DataError


class Corpus(Protocol):
    """The documents of one source. No document is in both parts."""

    def training(self) -> Iterator[str]:
        """Yield the documents for training."""
        ...

    def held_out(self) -> Iterator[str]:
        """Yield the documents for validation, in an order in which every prefix is a fair sample."""
        ...


def open_corpus(source: Source, data: Data, scratch: Path) -> Corpus:
    """Return the documents of a source; `scratch` is a folder for temporary files of the preparation."""
    if isinstance(source, Facts):
        return People(source)
    if isinstance(source, DenseFacts):
        return DenseEntries(source)
    return HashSplit(source.name, source.held_out, _texts(source, data, scratch))


def skipped_rows(source: Source, data: Data, scratch: Path) -> tuple[SkippedRows, ...]:
    """Read a source once more and return the rows that it leaves out, by reason; none unless it is told to skip."""
    if not isinstance(source, TextFiles | Hub) or source.on_bad_rows != "skip":
        return ()
    policy = RowPolicy(source)
    if isinstance(source, TextFiles):
        texts = text_files.documents(source, data.files, policy)
    else:
        texts = hub.documents(source, scratch / "datasets", policy)
    for _ in texts:
        pass
    return policy.skipped()


def _texts(source: Source, data: Data, scratch: Path) -> Callable[[], Iterator[str]]:
    if isinstance(source, PythonStdlib):
        return partial(python_stdlib.documents, source)
    if isinstance(source, TextFiles):
        return partial(text_files.documents, source, data.files)
    if isinstance(source, Hub):
        return partial(hub.documents, source, scratch / "datasets")
    raise DataError(f"source '{source.name}' is of kind '{source.kind}', which cannot be read")
