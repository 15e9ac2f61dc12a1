"""A PEER layer in place of a feed-forward layer: very many experts of one hidden unit each.

He 2024, "Mixture of a million experts": expert i is gelu(x . u_i) v_i. `memscale.models.queries` selects knn of N
experts per head; their outputs are summed with their weights over all heads. Both tables are the layer's own.

Shape suffixes: B batch, S positions, T = B S tokens, D model width, N slots (experts), K experts per token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from memscale.config.layers import Peer
from memscale.kernels.embedding_bag import embedding_bag
from memscale.kernels.memory_table import MemoryTable
from memscale.kernels.row_products import row_products
from memscale.models.cache import LayerCache
from memscale.models.queries import ProductKeySelection
from memscale.models.usage import Usage


class PeerLayer(ProductKeySelection):
    """Selection, the rows u_i (`input_table`) and the rows v_i (`output_table`), both [N, D]."""

    def __init__(self, d_model: int, peer: Peer, norm_eps: float) -> None:
        super().__init__(d_model, peer, norm_eps)
        self.input_table = MemoryTable(torch.empty(peer.num_slots, d_model))
        self.output_table = MemoryTable(torch.empty(peer.num_slots, d_model))

    def forward(
        self,
        x_BSD: Tensor,
        _table_NV: Tensor | None,
        _tokens_BS: Tensor | None,
        usage: Usage | None = None,
        cache: LayerCache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return [B, S, D] and the cores' loss; table and tokens are arguments of every sublayer, and unused here."""
        x_TD = x_BSD.flatten(0, 1)
        slots_TK, weights_TK = self.selected(self.query_inputs(x_BSD, cache), usage)
        hidden_TK = F.gelu(row_products(self.input_table, slots_TK, x_TD))
        out_TD = embedding_bag(self.output_table, slots_TK, weights_TK * hidden_TK)
        return out_TD.view_as(x_BSD), self.core_loss()
