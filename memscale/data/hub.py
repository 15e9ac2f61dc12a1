"""A data set of the Hugging Face hub, or a local copy of one, as a source; read with `datasets`.

A hub data set needs a revision, so that a digest identifies its content; a local folder is hashed. Refuses what
`datasets` cannot load, and names the configuration and split.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from memscale.config.data import Hub
from memscale.data.bad_rows import RowPolicy
from memscale.data.readers import UnreadableError, refuse_deep_json, text_of
from memscale.data.text_files import datasets_library
from memscale.errors import DataError, one_line

_ERRORS = (OSError, ValueError, TypeError, KeyError, RuntimeError, NotImplementedError)
"""What `datasets` and the readers below it raise for files that they cannot use."""


def local_folder(source: Hub) -> Path | None:
    """Return the folder of a local copy, or None for a name on the hub."""
    folder = Path(source.path).expanduser()
    return folder if folder.is_dir() else None


def local_files(folder: Path) -> list[Path]:
    """Return the files of a local copy, sorted by path, without hidden ones (caches, version control)."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def check(source: Hub) -> None:
    """Raise DataError for a name without a revision, or a folder without files."""
    folder = local_folder(source)
    if folder is None and source.revision is None:
        raise DataError(
            f"source '{source.name}': '{source.path}' is not a folder (looked from {Path.cwd()}), so it is read from "
            f"the hub, where contents change. Give data.sources.{source.name}.revision, a commit of the data set, "
            "or the path of a local copy"
        )
    if folder is not None and not local_files(folder):
        raise DataError(f"source '{source.name}': the folder {folder.absolute()} has no files; it needs a data set's")


def documents(source: Hub, cache: Path, policy: RowPolicy | None = None) -> Iterator[str]:
    """Yield the texts in order. A hub data set is cached in the user's own cache, a local one in `cache`.

    Raises DataError where `datasets` cannot load it or a row has no text.
    """
    datasets = datasets_library()
    check(source)
    folder = local_folder(source)
    where = f"source '{source.name}': {source.path} (config_name {source.config_name}, split {source.split})"
    try:
        if folder is not None:
            for path in local_files(folder):
                if path.name.removesuffix(".gz").endswith((".json", ".jsonl")):
                    refuse_deep_json(path)
            loaded = datasets.load_dataset(
                str(folder), name=source.config_name, split=source.split, cache_dir=str(cache)
            )
        else:
            loaded = datasets.load_dataset(
                source.path, name=source.config_name, split=source.split, revision=source.revision
            )
    except (*_ERRORS, datasets.exceptions.DatasetsError, UnreadableError) as error:
        raise DataError(
            f"{where} cannot be loaded: {one_line(str(error))}. Check path, config_name, split and "
            "revision, and the network for a data set that is not in the cache yet"
        ) from None
    rows = (text_of(row, source.text_column) for row in loaded)
    texts = (policy or RowPolicy(source)).texts(rows, where, "row")
    yield from itertools.islice((text for text in texts if text.strip()), source.max_documents)
