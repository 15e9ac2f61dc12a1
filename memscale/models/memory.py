"""A product-key memory layer in the feed-forward slot (Lample et al. 2019; Berges et al. 2024).

The rows of a table that `memscale.models.queries` selects are added up with their weights over all heads; the sum y
leaves as (y * silu(x W1)) W2, or as it is where the layer is not gated. A shared table is not the layer's: it is handed
in, so that several layers of one model share one, and two models never do.

B batch, S positions, T = B S tokens, D model width, N slots, V table width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memscale.config.layers import Memory
from memscale.kernels.embedding_bag import embedding_bag
from memscale.kernels.memory_table import MemoryTable
from memscale.models.queries import ProductKeySelection
from memscale.models.usage import Usage


class MemoryLayer(ProductKeySelection):
    """The selection, the gated output's W1 (`gate`) and W2 (`out`), and a table [N, V] where it is the layer's own."""

    def __init__(self, d_model: int, memory: Memory, norm_eps: float) -> None:
        super().__init__(d_model, memory, norm_eps)
        self._gated = memory.gated
        self.table: MemoryTable | None = None
        if not memory.shared_table:
            self.table = MemoryTable(torch.empty(memory.num_slots, memory.value_width))
        if memory.gated:
            self.gate = nn.Linear(d_model, memory.value_width, bias=False)
            self.out = nn.Linear(memory.value_width, d_model, bias=False)

    def forward(self, x_BSD: Tensor, table_NV: Tensor | None, usage: Usage | None) -> tuple[Tensor, None]:
        """Return [B, S, D]; `table_NV` is the model's, which a layer with its own leaves alone."""
        own_NV: Tensor | None = self.table
        values_NV = table_NV if own_NV is None else own_NV
        assert values_NV is not None, "a memory layer without a table of its own was handed none"
        x_TD = x_BSD.flatten(0, 1)
        y_TV = embedding_bag(values_NV, *self.selected(x_TD, usage))
        if self._gated:
            y_TV = self.out(y_TV * F.silu(self.gate(x_TD)))
        return y_TV.view_as(x_BSD), None
