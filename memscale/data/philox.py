"""Random numbers that never change: raw output of the Philox generator, with a key derived from strings and integers.

NumPy guarantees the raw streams of its bit generators, but not its distributions; so data that a digest identifies use
raw output only. The same key gives the same numbers on every machine and with every NumPy version.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Part: TypeAlias = str | int
Integers: TypeAlias = NDArray[np.int64]


def random_uint64(count: int, *key: Part) -> NDArray[np.uint64]:
    """Return `count` uniform 64-bit integers, a function of the key alone.

    The Philox key is the first 16 bytes of the SHA-256 of the key's parts with their types.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    words = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype="<u8")
    return np.random.Philox(key=words).random_raw(count)


def random_below(limit: int, count: int, *key: Part) -> Integers:
    """Return `count` integers in [0, limit), uniform up to a bias of limit / 2^64.

    Example:
        >>> random_below(10, 5, "example", 0).tolist() == random_below(10, 5, "example", 0).tolist()
        True
    """
    return (random_uint64(count, *key) % np.uint64(limit)).astype(np.int64)


def random_permutation(count: int, *key: Part) -> Integers:
    """Return a uniform permutation of 0 .. count - 1."""
    return np.argsort(random_uint64(count, *key), kind="stable")
