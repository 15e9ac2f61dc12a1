"""Implicit value expansion (UltraMem; Huang et al. 2024, arXiv 2411.12364, section 3.3): E virtual tables from one.

1. A virtual slot is a row of the table together with one of E projections: there are E N of them.
2. Product keys would give neighbouring virtual slots one projection, so virtual slots are first permuted: slot a
   becomes a m mod E N, with a fixed m that has no factor in common with E N and is near E N / 1.618. (The published
   code draws a random permutation and stores it: as many numbers as there are virtual slots.)
3. Permuted slot p means row p mod N, projection p // N.
4. The weighted sum of the rows is taken for each projection apart, and projected then: sum over e of y_e W_e is the
   sum of all virtual values.

The sums are E bags over the same rows, in which the weights of other projections are zero: the lookup reads each row E
times. Shape suffixes: T tokens, K slots per token, E virtual tables, N rows, V width of a row, P = T E.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memscale.kernels.embedding_bag import embedding_bag

_MOST = 1 << 62
"""Products of a slot and the multiplier stay below this."""


class VirtualTables:
    """The virtual slots of a table of `num_rows` rows with `num_virtual_tables` projections.

    Example:
        >>> virtual = VirtualTables(num_rows=4, num_virtual_tables=4)
        >>> slots = virtual.permuted(torch.arange(16))
        >>> sorted(slots.tolist()) == list(range(16))
        True
        >>> virtual.rows(slots)[:6].tolist(), (slots // 4)[:6].tolist()
        ([0, 1, 2, 3, 0, 1], [0, 2, 0, 2, 1, 3])
    """

    def __init__(self, num_rows: int, num_virtual_tables: int) -> None:
        self._num_rows, self._num_virtual_tables = num_rows, num_virtual_tables
        self._size = num_rows * num_virtual_tables
        self._multiplier = max(1, min(int(self._size * 0.6180339887498949), _MOST // self._size))
        while math.gcd(self._multiplier, self._size) > 1:
            self._multiplier += 1

    def permuted(self, slots_TK: Tensor) -> Tensor:
        """Return the permuted slots, 0..E N - 1."""
        return slots_TK * self._multiplier % self._size

    def rows(self, slots_TK: Tensor) -> Tensor:
        """Return the rows of permuted slots, 0..N - 1."""
        return slots_TK % self._num_rows

    def sums(self, table_NV: Tensor, slots_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """Return [T, E, V]: the weighted sum of the rows of each projection; `slots_TK` are permuted."""
        tables_E1 = torch.arange(self._num_virtual_tables, device=slots_TK.device)[:, None]
        mine_TEK = (slots_TK // self._num_rows)[:, None] == tables_E1
        weights_PK = (weights_TK[:, None] * mine_TEK).flatten(0, 1)
        rows_PK = self.rows(slots_TK)[:, None].expand_as(mine_TEK).flatten(0, 1)
        y_PV = embedding_bag(table_NV, rows_PK, weights_PK)
        return y_PV.view(len(slots_TK), self._num_virtual_tables, -1)
