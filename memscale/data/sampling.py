"""Which tokens stand in batch number k: a pure function of (seed, k), so that resuming needs the step and no state.

Sources take turns in a fixed cycle that gives each exactly its share of the samples, spread evenly. Within a source,
an epoch reads windows in a permuted order; the file is read as a ring, from a starting point drawn anew for each
epoch, so that documents are not cut at the same places twice. An epoch is `tokens // sequence_length` windows: less
than one window is left out, another part each time.
Refuses a source with less than one sequence of training tokens, and weights that no short cycle can meet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from memscale.data.packed import Tokens
from memscale.data.philox import Integers, below, permutation, raw
from memscale.errors import DataError

LONGEST_CYCLE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A source as the sampler sees it."""

    name: str
    weight: float
    tokens: Tokens


class Sampler:
    """Random access to the training batches of one run."""

    def __init__(self, streams: Sequence[Stream], *, seed: int, sequence_length: int, batch_sequences: int) -> None:
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

    def batch(self, k: int) -> Integers:
        """Return batch number k, [batch_sequences, sequence_length + 1]; each row's targets are its inputs shifted."""
        rows = [self._sample(number) for number in range(k * self._batch_sequences, (k + 1) * self._batch_sequences)]
        return np.stack(rows)

    def sources(self, k: int) -> list[str]:
        """Return the name of the source of each row of batch number k."""
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
        epoch, position = divmod(index, len(tokens) // self._length)
        start, order = self._epoch(source, epoch)
        first = (start + int(order[position]) * self._length) % len(tokens)
        last = first + self._length + 1
        if last <= len(tokens):
            return tokens[first:last].astype(np.int64)
        return np.concatenate([tokens[first:], tokens[: last - len(tokens)]]).astype(np.int64)

    def _epoch(self, source: int, epoch: int) -> tuple[int, Integers]:
        """Return starting point and order of the windows; the last epoch asked for is kept, for speed alone."""
        kept = self._epochs.get(source)
        if kept is None or kept[0] != epoch:
            stream = self._streams[source]
            key = ("sampling", self._seed, stream.name, epoch)
            start = int(below(len(stream.tokens), 1, *key, "start")[0])
            kept = (epoch, start, permutation(len(stream.tokens) // self._length, *key, "order"))
            self._epochs[source] = kept
        return kept[1], kept[2]


def _cycle(streams: Sequence[Stream], seed: int) -> Integers:
    """Return the sources' turns: counts in the exact ratio of the weights as written, evenly spread.

    Turn j of a source with c turns stands at (j + phase) / c of the way, the phase drawn from the seed.
    """
    counts = _whole_ratio({stream.name: stream.weight for stream in streams})
    places, owners = [], []
    for source, (stream, count) in enumerate(zip(streams, counts, strict=True)):
        phase = float(raw(1, "sampling", seed, stream.name, "phase")[0]) / 2.0**64
        places.append((np.arange(count) + phase) / count)
        owners.append(np.full(count, source, dtype=np.int64))
    cycle: Integers = np.concatenate(owners)[np.argsort(np.concatenate(places), kind="stable")]
    return cycle


def _whole_ratio(weights: dict[str, float]) -> list[int]:
    """Return the smallest whole numbers in the ratio of the weights, read as the decimals that a person wrote."""
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
