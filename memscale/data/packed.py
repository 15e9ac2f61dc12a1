"""Token files: the ids of one split of a source, concatenated, with an end token after each document.

Ids are little-endian unsigned integers of 16 bits where the vocabulary allows it, else of 32. Files are memory-mapped,
so they may be larger than memory, and processes share one copy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from memscale.data.manifest import SplitCounts
from memscale.data.tokenizer import Tokenizer

Tokens: TypeAlias = NDArray[np.uint16] | NDArray[np.uint32]

_BATCH_BYTES = 2_000_000
"""Bytes of text per call of the tokenizer."""


def dtype_for(vocab_size: int) -> str:
    """Return the NumPy name of the smallest type that holds every id below `vocab_size`."""
    return "uint16" if vocab_size <= 65_536 else "uint32"


def write_tokens(
    path: Path, documents: Iterator[str], tokenizer: Tokenizer, on_bytes: Callable[[int], None]
) -> SplitCounts:
    """Encode documents into a token file and return its counts.

    `on_bytes` is called with the bytes of text encoded so far. The folder of `path` must be renamed when it is
    complete, since a partial token file looks like a complete one.
    """
    dtype = np.dtype(dtype_for(tokenizer.vocab_size)).newbyteorder("<")
    num_documents = num_tokens = num_bytes = 0
    with open(path, "wb") as file:
        for texts, batch_bytes in batches(documents):
            encoded = tokenizer.encode_batch(texts)
            ids = itertools.chain.from_iterable((*document, tokenizer.end_id) for document in encoded)
            packed = np.fromiter(ids, dtype=dtype)
            file.write(packed.data)
            num_documents, num_tokens = num_documents + len(texts), num_tokens + len(packed)
            num_bytes += batch_bytes
            on_bytes(num_bytes)
    return SplitCounts(num_documents=num_documents, num_tokens=num_tokens, num_bytes=num_bytes)


def read_tokens(path: Path, dtype: str) -> Tokens:
    """Memory-map a token file, read-only, [tokens]."""
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=np.dtype(dtype).newbyteorder("<"), mode="r")


def batches(documents: Iterable[str]) -> Iterator[tuple[list[str], int]]:
    """Group documents into lists of about _BATCH_BYTES; yield each with its number of bytes."""
    held: list[str] = []
    num_bytes = 0
    for document in documents:
        held.append(document)
        num_bytes += len(document.encode())
        if num_bytes >= _BATCH_BYTES:
            yield held, num_bytes
            held, num_bytes = [], 0
    if held:
        yield held, num_bytes
