"""Digests of the data: the contents of the sources and every setting that changes what is prepared from them.

Mixtures of one sweep share one tokenizer, trained on the first of them, so that their losses compare (`fingerprints`).
Digests depend on the inputs only, never on prepared files, and computing them imports neither torch, datasets nor
tokenizers. Paths and names of files are not part of a digest, so a moved file is the same data. Refuses what cannot be
prepared: missing or empty files, facts without a number of people, a hub data set without a revision, two sources of
one name.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from memscale.config.codec import to_plain
from memscale.config.data import (
    ENTRIES_PER_DOCUMENT,
    Data,
    DenseFacts,
    Facts,
    Hub,
    PythonStdlib,
    Source,
    TextFiles,
)
from memscale.config.run import Digests
from memscale.data import hub, python_stdlib, text_files
from memscale.data.dense_facts import MARKS, NUM_SHOTS, WORDS, DenseEntries
from memscale.data.facts import OPENING, QUESTIONS_PER_DOCUMENT, People
from memscale.data.facts_words import ATTRIBUTES, FIRST, LAST
from memscale.errors import DataError

MEANING = 1
"""Raised by hand when a code change alters what is prepared from the same inputs."""

NUM_BYTES_AND_END = 257
"""Tokens that every vocabulary begins with."""

DIGITS = 16
"""Digits of the digest in the name of a folder or a tokenizer file."""
_EVALUATION_ONLY = ("num_eval_questions", "num_choices", "num_eval_facts")
_NO_CONTENT = ("bits_per_parameter", "files", "path", "revision")
"""Settings for where content comes from; they are not hashed, the content is."""


def fingerprint(data: Data, tokenizer_data: Data | None = None) -> Digests:
    """Return the SHA-256 digests of data, tokenizer and evaluation sets, in hex digits.

    Args:
        data: The mixture, with every source of facts sized.
        tokenizer_data: The mixture that the tokenizer is trained on; None: `data`.

    Raises:
        DataError: A source cannot be prepared.

    Example:
        >>> digests = fingerprint(Data(name="example", sources=(Facts(name="facts", num_people=20),)))
        >>> len(digests.data), digests.data != digests.tokenizer
        (64, True)
    """
    return fingerprints([tokenizer_data or data, data])[-1]


def fingerprints(mixtures: Sequence[Data]) -> tuple[Digests, ...]:
    """Return the digests of mixtures that share the tokenizer of the first one.

    A source that several mixtures have is read once.

    Args:
        mixtures: At least one, each with every source of facts sized; their tokenizers have the same settings.

    Raises:
        DataError: A source cannot be prepared.
    """
    described: dict[tuple[Source, tuple[str, ...]], dict[str, Any]] = {}
    contents = []
    for data in mixtures:
        check(data)
        for source in data.sources:
            if (source, data.files) not in described:
                described[source, data.files] = _source(source, data)
        sources = [described[source, data.files] for source in data.sources]
        contents.append(_digest({"meaning": MEANING, "sources": sources}))
    version = importlib.metadata.version("tokenizers")
    settings = to_plain(mixtures[0].tokenizer)
    tokenizer = _digest({"data": contents[0], "settings": settings, "tokenizers": version})
    return tuple(
        Digests(data=content, tokenizer=tokenizer, evaluation=_digest(_evaluation(data, content)))
        for data, content in zip(mixtures, contents, strict=True)
    )


def _evaluation(data: Data, contents: str) -> dict[str, Any]:
    """Return what decides the evaluation sets; `contents`: digest of the data."""
    questions = [
        {"name": source.name, **{key: getattr(source, key) for key in _EVALUATION_ONLY if hasattr(source, key)}}
        for source in data.sources
        if isinstance(source, Facts | DenseFacts)
    ]
    return {"data": contents, "questions": questions, "validation_tokens": data.validation_tokens}


def folder_digest(digests: Digests) -> str:
    """Return the digest over all three, which names the prepared folder."""
    return _digest(asdict(digests))


def prepared_folder(root: Path, digests: Digests) -> Path:
    """Return the folder of the prepared data with these digests, which may not be there yet."""
    return root / "data" / folder_digest(digests)[:DIGITS]


def check(data: Data) -> None:
    """Raise DataError for a mixture that cannot be prepared."""
    names = [source.name for source in data.sources]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"data.sources names '{name}' twice; give each source a name of its own")
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name) or name == "mixture":
            raise DataError(
                f"data.sources: '{name}' cannot name a source, as it names files and columns; use letters, digits, "
                "_ and - ('mixture' is taken)"
            )
    for kind in (Facts, DenseFacts):
        if sum(isinstance(source, kind) for source in data.sources) > 1:
            raise DataError(
                f"data.sources has two sources of kind '{kind.kind}'; one is the most, as the knowledge is its own"
            )
    least = NUM_BYTES_AND_END + len(WORDS)
    if any(isinstance(source, DenseFacts) for source in data.sources) and data.tokenizer.vocab_size < least:
        raise DataError(
            f"data.tokenizer.vocab_size is {data.tokenizer.vocab_size}; dense facts need {least} or more, as each of "
            f"their {len(WORDS)} words is a token beside every byte and the end token"
        )
    if data.files and not any(isinstance(source, TextFiles) and not source.files for source in data.sources):
        raise DataError(
            f"data.files is {list(data.files)}, but no source of kind 'text_files' reads it (sources: "
            f"{', '.join(names)}). Choose data=text_files, or remove data.files"
        )


def _source(source: Source, data: Data) -> dict[str, Any]:
    """Return the settings of a source, with a digest of its contents in place of paths."""
    settings = to_plain(source)
    left_out = (*_EVALUATION_ONLY, *_NO_CONTENT)
    plain = {key: value for key, value in settings.items() if key not in left_out}
    if plain.get("on_bad_rows") == "refuse":  # data that pass are those that every version of memscale has read
        del plain["on_bad_rows"]
    if isinstance(source, Facts):
        People(source)  # refuses what it cannot make
        words = [asdict(attribute) for attribute in ATTRIBUTES]
        return {**plain, "words": _digest([words, FIRST, LAST, OPENING, QUESTIONS_PER_DOCUMENT])}
    if isinstance(source, DenseFacts):
        DenseEntries(source)  # refuses what it cannot make
        return {**plain, "words": _digest([WORDS, MARKS, ENTRIES_PER_DOCUMENT, NUM_SHOTS])}
    if isinstance(source, PythonStdlib):
        return {**plain, "contents": _contents((path, path.name) for path in python_stdlib.taken_files(source))}
    if isinstance(source, TextFiles):
        files = text_files.matched_files(source, data.files)
        return {**plain, "contents": _contents((path, text_files.kind_of(path)) for path in files)}
    if isinstance(source, Hub):
        hub.check(source)
        folder = hub.local_folder(source)
        if folder is None:
            return {**plain, "path": source.path, "revision": source.revision}
        return {
            **plain,
            "contents": _contents((path, path.relative_to(folder).as_posix()) for path in hub.local_files(folder)),
        }
    raise DataError(f"source '{source.name}' is of kind '{source.kind}', which has no fingerprint")


def _contents(files: Iterable[tuple[Path, str]]) -> str:
    """Return a digest of the files' contents in order, each under the label that decides how it is read."""
    hasher = hashlib.sha256()
    for path, label in files:
        try:
            content = sha256(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}). Make it readable, or leave it out") from None
        hasher.update(f"{label}\0{content}\n".encode())
    return hasher.hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    content = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
    return content.hexdigest()


def _digest(plain: Any) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
