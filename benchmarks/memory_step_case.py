"""The cases of `benchmarks.memory_step`: a table and the lookups in it, on the CPU or a GPU.

Every step has new lookups, the same for all libraries. Slots are uniform, or Zipf-distributed with exponent 1.1.

Shape suffixes: T tokens, K slots per token, V width of a row, N slots.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks import peers

_EXPONENT = 1.1
_WARM_UP_READS = 1.5
"""Per slot; so many uniform reads leave a fifth of the rows untouched."""
_SPARE_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Case:
    """A table, and the lookups in it."""

    slots: int
    width: int = 256
    indices: str = "uniform"
    tokens: int = 2048
    reads_per_token: int = 4 * 32
    backends: tuple[str, ...] = tuple(peers.STEPS)
    dtype: torch.dtype = torch.float32
    """Of the table; weights and gradients are brought to it."""
    device: str = "cpu"

    @property
    def reads(self) -> int:
        """Lookups per step."""
        return self.tokens * self.reads_per_token

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.width * self.dtype.itemsize

    @property
    def table_bytes(self) -> int:
        """Bytes of the table."""
        return self.slots * self.row_bytes

    @property
    def warm_up(self) -> int:
        """Steps that are not timed."""
        return math.ceil(_WARM_UP_READS * self.slots / self.reads) + 2

    def needs_bytes(self, step: type[peers.Step]) -> int:
        """Return the memory that a library's step needs, in bytes."""
        rows = self.reads * self.row_bytes
        return step.num_tables * self.table_bytes + step.num_reads * rows + 16 * self.slots + _SPARE_BYTES


class Batches:
    """The lookups of a case; every iteration begins with the same ones."""

    def __init__(self, case: Case, seed: int = 0) -> None:
        self._case, self._seed = case, seed
        self._cumulative_N = self._order_N = torch.empty(0)
        if case.indices == "zipf":
            # Which slots are popular is drawn too: neighbours in the table are not neighbours in rank.
            self._order_N = torch.randperm(case.slots, generator=self._generator(), device=case.device)
            ranks_N = torch.arange(1, case.slots + 1, dtype=torch.float64, device=case.device)
            self._cumulative_N = ranks_N.pow_(-_EXPONENT).cumsum(0)

    def __iter__(self) -> Iterator[peers.Batch]:
        case, generator = self._case, self._generator()
        shape = (case.tokens, case.reads_per_token)
        drawn: dict[str, Any] = {"generator": generator, "device": case.device}
        while True:
            yield peers.Batch(
                slots_TK=self._slots(shape, generator),
                weights_TK=(torch.rand(shape, **drawn) / case.reads_per_token).to(case.dtype).requires_grad_(),
                gradient_TV=torch.randn(case.tokens, case.width, **drawn).to(case.dtype),
            )

    def _generator(self) -> torch.Generator:
        return torch.Generator(self._case.device).manual_seed(self._seed)

    def _slots(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        if self._case.indices == "uniform":
            return torch.randint(self._case.slots, shape, generator=generator, device=self._case.device)
        drawn = torch.rand(shape, dtype=torch.float64, generator=generator, device=self._case.device)
        quantiles = drawn * self._cumulative_N[-1]
        ranks = torch.searchsorted(self._cumulative_N, quantiles).clamp_(max=self._case.slots - 1)
        return self._order_N[ranks]


def touched_rows(batches: Batches) -> int:
    """Return the distinct slots of a batch, the median of three."""
    return int(median(len(batch.slots_TK.unique()) for batch in islice(batches, 3)))


def new_table(case: Case) -> Tensor:
    """Return the initial table."""
    generator = torch.Generator(case.device).manual_seed(0)
    table_NV = torch.empty(case.slots, case.width, device=case.device)
    return table_NV.uniform_(-0.02, 0.02, generator=generator).to(case.dtype)
