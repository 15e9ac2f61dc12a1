"""A product-key memory layer in place of a feed-forward layer (Lample et al. 2019; Berges et al. 2024).

1. `memscale.models.queries` selects H * knn slots per token, with their weights.
2. y is the weighted sum of their table rows over all heads (`embedding_bag`).
3. Gated (Memory+): (y * silu(x W1)) W2. With a projection (UltraMem): y W2. Otherwise y itself.
4. With expansion (UltraMem) y is a sum for each of E virtual tables (`memscale.models.value_expansion`), all have the
   one gate, and W2 [E V, D] has a projection for each.

A shared table is not the layer's own: the model passes it in, so that the memory layers of one model share one.

Shape suffixes: B batch, S positions, T = B S tokens, D model width, N slots, V width of the table, E virtual tables.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memscale.config.layers import Memory
from memscale.kernels.embedding_bag import embedding_bag
from memscale.kernels.memory_table import MemoryTable
from memscale.models.cache import LayerCache
from memscale.models.queries import ProductKeySelection
from memscale.models.usage import Usage


class MemoryLayer(ProductKeySelection):
    """Selection, the output's W1 (`gate`) and W2 (`out`) if it has them, and a table [N, V] unless it is shared."""

    def __init__(self, d_model: int, memory: Memory, norm_eps: float) -> None:
        super().__init__(d_model, memory, norm_eps)
        self.gate = self.out = None
        self.table: MemoryTable | None = None
        if not memory.shared_table:
            self.table = MemoryTable(torch.empty(memory.num_slots, memory.value_width))
        if memory.gated:
            self.gate = nn.Linear(d_model, memory.value_width, bias=False)
        if memory.num_output_matrices:
            self.out = nn.Linear(memory.num_virtual_tables * memory.value_width, d_model, bias=False)

    def forward(
        self,
        x_BSD: Tensor,
        table_NV: Tensor | None,
        _tokens_BS: Tensor | None,
        usage: Usage | None = None,
        cache: LayerCache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output [B, S, D], and the loss of the selection's cores, None without them.

        Args:
            x_BSD: The normalised residual stream.
            table_NV: The model's shared table, unused by a layer with its own.
            _tokens_BS: An argument of every feed-forward sublayer, unused here.
            usage: Accumulates how often each slot is used, if given.
            cache: Earlier inputs of this layer, for queries that are convolved.
        """
        own_NV: Tensor | None = self.table
        values_NV = table_NV if own_NV is None else own_NV
        assert values_NV is not None, "a memory layer without a table of its own was handed none"
        x_TD = x_BSD.flatten(0, 1)
        selected = self.selected(self.query_inputs(x_BSD, cache), usage)
        if self._virtual is None:
            y_TEV = embedding_bag(values_NV, *selected)[:, None]
        else:
            y_TEV = self._virtual.sums(values_NV, *selected)
        if self.gate is not None:
            y_TEV = y_TEV * F.silu(self.gate(x_TD))[:, None]
        out_TD = y_TEV.flatten(1)
        if self.out is not None:
            out_TD = self.out(out_TD)
        return out_TD.view_as(x_BSD), self.core_loss()
