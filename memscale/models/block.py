"""One layer of the decoder: attention and a feed-forward sublayer, each after a norm, and what stands beside them.

The sublayer is dense, experts, memory, PEER or a token table's, by the architecture; all have the same signature. A
memory or PEER layer may also stand beside another sublayer: both read the same normalised input, and both outputs are
added, that of the memory `skip` blocks later if so configured. A block may have an n-gram memory, before attention, and
a token table besides.

Shape suffixes: B batch, S positions, D model width, V width of attention's values, K rows read; for a table N slots and
V width.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn

from memscale.config.architecture import Architecture
from memscale.models.attention import Attention
from memscale.models.cache import LayerCache
from memscale.models.feedforward import FeedForward
from memscale.models.memory import MemoryLayer
from memscale.models.moe import MoEFeedForward
from memscale.models.ngram import NGramLayer
from memscale.models.peer import PeerLayer
from memscale.models.queries import ProductKeySelection
from memscale.models.token_table import GatedTokenTable, TokenFeedForward, ValueTable
from memscale.models.usage import Usage

Slot = FeedForward | MoEFeedForward | MemoryLayer | PeerLayer | TokenFeedForward
NO_USAGES: Mapping[str, Usage] = MappingProxyType({})


class Block(nn.Module):
    """One layer: adds to the residual stream, and returns the layer's auxiliary loss or None."""

    def __init__(self, architecture: Architecture, layer: int) -> None:
        super().__init__()
        a = architecture
        self.attention_norm = nn.RMSNorm(a.d_model, eps=a.norm_eps)
        self.attention = Attention(a)
        self.slot_norm = nn.RMSNorm(a.d_model, eps=a.norm_eps)
        self._kind, self._beside_kind = a.feed_forward_kind(layer), a.beside_kind(layer)
        self.slot = _slot(a, self._kind)
        self.beside = None if self._beside_kind is None else _slot(a, self._beside_kind)
        self._is_late = a.beside_end(layer) > layer
        self.ngram: NGramLayer | None = None
        if a.ngram is not None and layer in a.ngram.layers:
            self.ngram = NGramLayer(a.d_model, a.ngram, layer, a.vocab_size, a.norm_eps)
        self.token_table: GatedTokenTable | ValueTable | None = None
        if a.token_table is not None and layer in a.token_table.layers and a.token_table.use != "up":
            width = a.token_table.row_width
            if a.token_table.use == "gated":
                self.token_table = GatedTokenTable(a.d_model, a.vocab_size, width, a.norm_eps)
            else:
                self.token_table = ValueTable(a.vocab_size, width)

    def forward(
        self,
        x_BSD: Tensor,
        rotations: Tensor,
        table_NV: Tensor | None,
        tokens_BS: Tensor,
        usages: Mapping[str, Usage] = NO_USAGES,
        cache: LayerCache | None = None,
        rows_BSK: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the residual stream [B, S, D] after this layer, its auxiliary loss or None, and what is added later.

        Args:
            x_BSD: The residual stream.
            rotations: Of the rotary positions.
            table_NV: The table that memory layers share, if they do.
            tokens_BS: The token ids, int64.
            usages: What accumulates the use of this layer's parts, by their names.
            cache: Earlier positions.
            rows_BSK: Rows that the n-gram memory reads, int64; needed where the layer has one.
        """
        if self.ngram is not None:
            assert rows_BSK is not None, "a layer with n-gram memory was handed no rows"
            x_BSD = x_BSD + self.ngram(x_BSD, rows_BSK, usages.get("ngram"), cache)
        added_BSV = self.token_table(tokens_BS) if isinstance(self.token_table, ValueTable) else None
        x_BSD = x_BSD + self.attention(self.attention_norm(x_BSD), rotations, cache, added_BSV)
        inputs = self.slot_norm(x_BSD), table_NV, tokens_BS
        out_BSD, loss = _through(self.slot, inputs, usages.get(self._kind), cache)
        x_BSD, late_BSD = x_BSD + out_BSD, None
        if self.beside is not None and self._beside_kind is not None:
            out_BSD, beside_loss = _through(self.beside, inputs, usages.get(self._beside_kind), cache)
            loss = beside_loss if loss is None else loss if beside_loss is None else loss + beside_loss
            if self._is_late:
                late_BSD = out_BSD
            else:
                x_BSD = x_BSD + out_BSD
        if isinstance(self.token_table, GatedTokenTable):
            x_BSD = x_BSD + self.token_table(x_BSD, tokens_BS)
        return x_BSD, loss, late_BSD


def _through(
    part: nn.Module, inputs: tuple[Tensor, Tensor | None, Tensor], usage: Usage | None, cache: LayerCache | None
) -> tuple[Tensor, Tensor | None]:
    """Call a sublayer; those with queries may need earlier inputs."""
    earlier = (cache,) if isinstance(part, ProductKeySelection) else ()
    out_BSD, loss = part(*inputs, usage, *earlier)
    return out_BSD, loss


def _slot(a: Architecture, kind: str) -> Slot:
    """Return a feed-forward sublayer of this kind.

    All have forward(x_BSD, table_NV or None, tokens_BS, usage or None) -> (out_BSD, auxiliary loss or None).
    """
    if kind == "moe":
        assert a.moe is not None
        return MoEFeedForward(a.d_model, a.moe, a.vocab_size)
    if kind == "memory":
        assert a.memory is not None
        return MemoryLayer(a.d_model, a.memory, a.norm_eps)
    if kind == "peer":
        assert a.peer is not None
        return PeerLayer(a.d_model, a.peer, a.norm_eps)
    if kind == "token_table":
        return TokenFeedForward(a.d_model, a.vocab_size, a.ffn_hidden)
    return FeedForward(a.d_model, a.ffn_hidden)
