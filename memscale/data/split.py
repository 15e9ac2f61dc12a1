"""Splits the documents of a source into training and held-out ones by a hash of their content.

The documents with the smallest hashes are held out, at least one. Copies of a document have the same hash and are
therefore on the same side. Only the first MAX_HELD_OUT_BYTES of the held-out documents are kept; the others are not
used for training either. Refuses a source without two different documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np

from memscale.errors import DataError

MAX_HELD_OUT_BYTES = 4_000_000


class HashSplit:
    """Splits the texts of `documents`, which must yield the same texts in the same order at every call.

    Example:
        >>> split = HashSplit("text", 0.2, lambda: iter(f"document {i}" for i in range(10)))
        >>> len(list(split.training())), len(list(split.held_out()))
        (8, 2)
    """

    def __init__(self, source_name: str, share: float, documents: Callable[[], Iterator[str]]) -> None:
        """`share` is the fraction of the documents to hold out."""
        self._source_name, self._share, self._documents = source_name, share, documents

    def training(self) -> Iterator[str]:
        """Yield the training documents in the source's order."""
        last = self._last_held_out
        return (text for text in self._documents() if key_of(text) > last)

    def held_out(self) -> Iterator[str]:
        """Yield the held-out documents, each once, in the order of their hashes: every prefix is a fair sample."""
        last = self._last_held_out
        kept = {key: text for text in self._documents() if (key := key_of(text)) <= last}
        num_bytes = 0
        for key in sorted(kept):
            yield kept[key]
            num_bytes += len(kept[key].encode())
            if num_bytes >= MAX_HELD_OUT_BYTES:
                return

    @cached_property
    def _last_held_out(self) -> int:
        """The largest hash that is held out. Raises DataError where all documents are equal."""
        keys = np.sort(np.fromiter((key_of(text) for text in self._documents()), dtype=np.uint64))
        if len(keys) == 0 or keys[0] == keys[-1]:
            raise DataError(
                f"source '{self._source_name}' has {len(keys)} documents with text, all the same; training and "
                "validation need at least 2 different ones. Give more text"
            )
        count = max(1, round(self._share * len(keys)))
        last = int(keys[count - 1])
        below_largest = int(keys[keys < keys[-1]][-1])  # never everything
        return min(last, below_largest)


def key_of(text: str) -> int:
    """Return a 64-bit hash of the content (BLAKE2b)."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
