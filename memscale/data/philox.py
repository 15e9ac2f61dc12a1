"""Random numbers that mean the same for ever: raw Philox output under a key derived from words and numbers.

NumPy promises the raw streams of its bit generators, not what its distributions make of them; so data that a digest
stands for are drawn from raw output only. Refuses nothing; the same key gives the same numbers on every machine.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Part: TypeAlias = str | int
Integers: TypeAlias = NDArray[np.int64]


def raw(count: int, *key: Part) -> NDArray[np.uint64]:
    """Return `count` uniform 64-bit numbers, a function of the key alone."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    words = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype="<u8")
    return np.random.Philox(key=words).random_raw(count)


def below(limit: int, count: int, *key: Part) -> Integers:
    """Return `count` integers in [0, limit), uniform up to a bias of limit / 2^64."""
    return (raw(count, *key) % np.uint64(limit)).astype(np.int64)


def permutation(count: int, *key: Part) -> Integers:
    """Return a uniform permutation of 0 .. count-1."""
    return np.argsort(raw(count, *key), kind="stable")
