"""Batches of tokens as a pure function of (seed, k), so that a resumed run needs its step number and no other state.

1. Sources follow each other in a fixed cycle with exactly their shares of the samples, evenly spread.
2. Within a source, an epoch reads its windows in a permuted order, `tokens // sequence_length` of them.
3. The token file is read as a ring from a random start per epoch, so that documents are cut at different places, and
   the less than one window that an epoch leaves out is different each time.
4. A source that was written in passes (`Stream.in_order`) is read on and on from one random start instead.

Refuses a source with fewer training tokens than one sequence, and weights without a short exact ratio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from memscale.data.packed import Tokens
from memscale.data.philox import Integers, random_below, random_permutation, random_uint64
from memscale.data.verification import CheckedBlocks
from memscale.errors import DataError

LONGEST_CYCLE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The weight and the training tokens of one source."""

    name: str
    weight: float
    tokens: Tokens
    checked: CheckedBlocks | None = None
    """Checks the tokens when they are read; None: they have been verified."""
    in_order: bool = False
    """Read the tokens in the order in which they were written, as a ring from a random start: for a source that was
    written in passes, in which every fact comes once, so that a fact is read at even intervals."""


class Sampler:
    """Random access to the training batches of one run.

    Example:
        >>> tokens = np.arange(1000, dtype=np.uint16)
        >>> streams = [Stream(name="a", weight=0.75, tokens=tokens), Stream(name="b", weight=0.25, tokens=tokens)]
        >>> batches = Sampler(streams, seed=0, sequence_length=8, batch_sequences=4)
        >>> batches.batch(5).shape, sorted(batches.sources(5))
        ((4, 9), ['a', 'a', 'a', 'b'])
    """

    def __init__(self, streams: Sequence[Stream], *, seed: int, sequence_length: int, batch_sequences: int) -> None:
        """Raise DataError where a source is shorter than one sequence or the weights have no short exact ratio."""
        self._seed, self._length, self._batch_sequences = seed, sequence_length, batch_sequences
        self._streams = tuple(streams)
        for stream in streams:
            if len(stream.tokens) < sequence_length:
                raise DataError(
                    f"source '{stream.name}' has {len(stream.tokens)} training tokens; one sequence needs "
                    f"{sequence_length}. Give it more text, or set a shorter scale.sequence_length"
                )
        self._cycle = _cycle(self._streams, seed)
        counts = np.bincount(self._cycle, minlength=len(self._streams))
        self._per_cycle: list[int] = counts.tolist()
        self._ranks = np.zeros(len(self._cycle), dtype=np.int64)
        for source, count in enumerate(self._per_cycle):
            self._ranks[self._cycle == source] = np.arange(count)
        self._epochs: dict[int, tuple[int, int, Integers]] = {}
        self._starts = [
            int(random_below(len(stream.tokens), 1, "sampling", seed, stream.name, "start")[0]) for stream in streams
        ]

    def batch(self, k: int) -> Integers:
        """Return batch k, int64 [batch_sequences, sequence_length + 1]; targets are the inputs shifted by one."""
        rows = [self._sample(number) for number in range(k * self._batch_sequences, (k + 1) * self._batch_sequences)]
        return np.stack(rows)

    def sources(self, k: int) -> list[str]:
        """Return the name of the source of each row of batch k."""
        first = k * self._batch_sequences
        return [self._streams[self._place(first + row)[0]].name for row in range(self._batch_sequences)]

    def _place(self, number: int) -> tuple[int, int]:
        """Return the source of a sample, and how many samples of that source come before it."""
        cycle, position = divmod(number, len(self._cycle))
        source = int(self._cycle[position])
        return source, cycle * self._per_cycle[source] + int(self._ranks[position])

    def _sample(self, number: int) -> Integers:
        source, index = self._place(number)
        tokens = self._streams[source].tokens
        first = self._first(source, index)
        last = first + self._length + 1
        if (checked := self._streams[source].checked) is not None:
            checked.check(first, min(last, len(tokens)))
            checked.check(0, max(0, last - len(tokens)))
        if last <= len(tokens):
            return tokens[first:last].astype(np.int64)
        return np.concatenate([tokens[first:], tokens[: last - len(tokens)]]).astype(np.int64)

    def _first(self, source: int, index: int) -> int:
        """Return where window `index` of a source begins, in its ring of tokens."""
        stream = self._streams[source]
        if stream.in_order:
            return (self._starts[source] + index * self._length) % len(stream.tokens)
        epoch, position = divmod(index, len(stream.tokens) // self._length)
        start, order = self._epoch(source, epoch)
        return (start + int(order[position]) * self._length) % len(stream.tokens)

    def _epoch(self, source: int, epoch: int) -> tuple[int, Integers]:
        """Return the start and the order of the windows of an epoch; the last one of each source is cached."""
        kept = self._epochs.get(source)
        if kept is None or kept[0] != epoch:
            stream = self._streams[source]
            key = ("sampling", self._seed, stream.name, epoch)
            start = int(random_below(len(stream.tokens), 1, *key, "start")[0])
            kept = (epoch, start, random_permutation(len(stream.tokens) // self._length, *key, "order"))
            self._epochs[source] = kept
        return kept[1], kept[2]


def _cycle(streams: Sequence[Stream], seed: int) -> Integers:
    """Return the cycle of sources: counts in the exact ratio of the weights, evenly spread.

    Turn j of a source with c turns is at the position (j + phase) / c of the cycle, with a phase from the seed.
    """
    counts = _whole_ratio({stream.name: stream.weight for stream in streams})
    places, owners = [], []
    for source, (stream, count) in enumerate(zip(streams, counts, strict=True)):
        phase = float(random_uint64(1, "sampling", seed, stream.name, "phase")[0]) / 2.0**64
        places.append((np.arange(count) + phase) / count)
        owners.append(np.full(count, source, dtype=np.int64))
    cycle: Integers = np.concatenate(owners)[np.argsort(np.concatenate(places), kind="stable")]
    return cycle


def _whole_ratio(weights: dict[str, float]) -> list[int]:
    """Return the smallest integers in the ratio of the weights, which are read as the decimals that were written."""
    exact = [Fraction(repr(weight)) for weight in weights.values()]
    common = math.lcm(*(fraction.denominator for fraction in exact))
    whole = [int(fraction * common) for fraction in exact]
    divisor = math.gcd(*whole)
    counts = [number // divisor for number in whole]
    if sum(counts) > LONGEST_CYCLE:
        given = ", ".join(f"{name} {weight!r}" for name, weight in weights.items())
        raise DataError(
            f"the weights of data.sources ({given}) meet their exact ratio only every {sum(counts)} sequences; "
            f"{LONGEST_CYCLE} is the most. Write them with fewer digits, such as 0.3 and 0.7"
        )
    return counts
