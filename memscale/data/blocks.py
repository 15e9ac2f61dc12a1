"""Digests of the blocks of a file: SHA-256 of each megabyte, one after another, in a file beside it.

SHA-256 is what `hashlib` has fastest on processors with instructions for it (benchmarks/results/verification.json).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BLOCK_BYTES = 1 << 20
BLOCKS = ".blocks"
"""Ending of the file that holds the digests."""
DIGEST_BYTES = 32
MOST_THREADS = 8
_PART = 64
"""Blocks that one thread takes at a time."""


def block_digests(path: Path) -> tuple[str, bytes]:
    """Read a file once; return its SHA-256 in hex, and those of its blocks, DIGEST_BYTES each, concatenated."""
    whole, blocks = hashlib.sha256(), bytearray()
    for block in _blocks(path, BLOCK_BYTES):
        whole.update(block)
        blocks += sha256_of(block)
    return whole.hexdigest(), bytes(blocks)


def differing_block(path: Path, block_bytes: int, blocks: bytes) -> int | None:
    """Read a file and return the number of its first block, from 0, whose digest differs; None where none does.

    As many threads read as this process has cores, MOST_THREADS at most: a disk is faster than one core's digests.
    """
    num_blocks = -(-path.stat().st_size // block_bytes)
    parts = [range(first, min(first + _PART, num_blocks)) for first in range(0, num_blocks, _PART)]

    def of_part(part: range) -> int | None:
        with open(path, "rb") as file:
            for number in part:
                if sha256_of(os.pread(file.fileno(), block_bytes, number * block_bytes)) != digest_of(blocks, number):
                    return number
        return None

    if len(parts) < 2:
        return next((found for part in parts if (found := of_part(part)) is not None), None)
    with ThreadPoolExecutor(min(MOST_THREADS, len(os.sched_getaffinity(0)))) as pool:
        for found in pool.map(of_part, parts):
            if found is not None:
                pool.shutdown(cancel_futures=True)
                return found
    return None


def sha256_of(block: bytes) -> bytes:
    """Return the SHA-256 of a block, DIGEST_BYTES long."""
    return hashlib.sha256(block).digest()


def digest_of(blocks: bytes, number: int) -> bytes:
    """Return the stored digest of a block."""
    return blocks[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]


def _blocks(path: Path, block_bytes: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(block_bytes):
            yield block
