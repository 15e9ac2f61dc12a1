"""Token files: the ids of one source's split one after the other, an end token after each document.

Ids are unsigned 16-bit where the vocabulary allows it, else 32-bit, little-endian. Reading maps the file into memory,
so a corpus larger than memory works, and many processes share one copy.
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
"""Text handed to the tokenizer at once."""


def dtype_for(vocab_size: int) -> str:
    """Return the name of the smallest type that holds every id below `vocab_size`."""
    return "uint16" if vocab_size <= 65_536 else "uint32"


def write_tokens(
    path: Path, documents: Iterator[str], tokenizer: Tokenizer, on_bytes: Callable[[int], None]
) -> SplitCounts:
    """Encode the documents into `path`; tells `on_bytes` the bytes of text done so far.

    `path` must be in a folder that gets its final name later: a half-written token file looks like a whole one.
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
    """Map a token file into memory, read-only, [tokens]."""
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=np.dtype(dtype).newbyteorder("<"), mode="r")


def batches(documents: Iterable[str]) -> Iterator[tuple[list[str], int]]:
    """Group documents into lists of about _BATCH_BYTES, each with its number of bytes."""
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
