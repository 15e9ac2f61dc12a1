"""The decoder: embedding, blocks of attention and a feed-forward sublayer, each after a norm; a norm and the head.

The sublayer is dense, experts, memory or PEER, by the architecture; all have the same signature. A memory or PEER layer
may also stand beside a dense sublayer: both read the same normalised input, and both outputs are added, that of the
memory `skip` blocks later if so configured. The model owns the table that its memory layers share; layers own the
tables that are not shared.

Shape suffixes: B batch, S positions, D model width, V vocabulary; for a table N slots and V width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memscale.config.architecture import Architecture
from memscale.errors import ConfigError
from memscale.kernels.memory_table import MemoryTable, allocate_table
from memscale.kernels.table_placement import ON_DEVICE, TablePlacement
from memscale.models.attention import Attention
from memscale.models.cache import KVCache, LayerCache
from memscale.models.counts import ParameterCounts, count_parameters
from memscale.models.feedforward import FeedForward
from memscale.models.initialise import initialise
from memscale.models.memory import MemoryLayer
from memscale.models.moe import MoEFeedForward
from memscale.models.peer import PeerLayer
from memscale.models.queries import ProductKeySelection, QueryBatchNorm
from memscale.models.rotary import Rotary
from memscale.models.usage import Usage

__all__ = ["Output", "ParameterCounts", "Transformer", "build", "count_parameters"]


@dataclass(frozen=True, kw_only=True)
class Output:
    """The result of a forward pass."""

    logits_BSV: Tensor  # noqa: N815
    auxiliary_loss: Tensor
    """Scalar: the sum of the expert layers' weighted balance and z-losses, and of the memory layers' core losses; zero
    in a model without either."""


class Block(nn.Module):
    """One layer: adds to the residual stream, and returns the layer's auxiliary loss or None."""

    def __init__(self, architecture: Architecture, layer: int) -> None:
        super().__init__()
        a = architecture
        self.attention_norm = nn.RMSNorm(a.d_model, eps=a.norm_eps)
        self.attention = Attention(a)
        self.slot_norm = nn.RMSNorm(a.d_model, eps=a.norm_eps)
        self.slot = _slot(a, a.feed_forward_kind(layer))
        beside = a.sparse_kind(layer) if a.feed_forward_kind(layer) == "dense" else None
        self.beside = None if beside is None else _slot(a, beside)
        self._is_late = beside is not None and a.skip > 0

    def forward(
        self,
        x_BSD: Tensor,
        rotations: Tensor,
        table_NV: Tensor | None,
        usage: Usage | None,
        cache: LayerCache | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the residual stream [B, S, D] after this layer, its auxiliary loss, and what is to be added later."""
        x_BSD = x_BSD + self.attention(self.attention_norm(x_BSD), rotations, cache)
        normed_BSD = self.slot_norm(x_BSD)
        out_BSD, loss = _through(self.slot, normed_BSD, table_NV, usage, cache)
        if self.beside is None:
            return x_BSD + out_BSD, loss, None
        beside_BSD, loss = _through(self.beside, normed_BSD, table_NV, usage, cache)
        if self._is_late:
            return x_BSD + out_BSD, loss, beside_BSD
        return x_BSD + out_BSD + beside_BSD, loss, None


def _through(
    part: nn.Module, x_BSD: Tensor, table_NV: Tensor | None, usage: Usage | None, cache: LayerCache | None
) -> tuple[Tensor, Tensor | None]:
    """Call a sublayer; those with queries may need earlier inputs."""
    earlier = (cache,) if isinstance(part, ProductKeySelection) else ()
    out_BSD, loss = part(x_BSD, table_NV, usage, *earlier)
    return out_BSD, loss


def _slot(a: Architecture, kind: str) -> FeedForward | MoEFeedForward | MemoryLayer | PeerLayer:
    """Return a feed-forward sublayer of this kind.

    All have forward(x_BSD, table_NV or None, usage or None) -> (out_BSD, auxiliary loss or None).
    """
    if kind == "moe":
        assert a.moe is not None
        return MoEFeedForward(a.d_model, a.moe)
    if kind == "memory":
        assert a.memory is not None
        return MemoryLayer(a.d_model, a.memory, a.norm_eps)
    if kind == "peer":
        assert a.peer is not None
        return PeerLayer(a.d_model, a.peer, a.norm_eps)
    return FeedForward(a.d_model, a.ffn_hidden)


class Transformer(nn.Module):
    """A model of `architecture`. `build` returns one with weights; the bare constructor leaves them unset."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        self.architecture = a
        # With a given weight nn.Embedding initialises none, which on the meta device would import the compiler (1 s).
        self.embedding = nn.Embedding(a.vocab_size, a.d_model, _weight=torch.empty(a.vocab_size, a.d_model))
        self.table: MemoryTable | None = None
        """The table [num_slots, value_width] that all memory layers of this model share; None if they share none."""
        if a.memory is not None and a.memory.shared_table:
            self.table = MemoryTable(torch.empty(a.memory.num_slots, a.memory.value_width))
        self.blocks = nn.ModuleList(Block(a, layer) for layer in range(a.num_layers))
        self.norm = nn.RMSNorm(a.d_model, eps=a.norm_eps)
        self.head = nn.Linear(a.d_model, a.vocab_size, bias=False)
        if a.tied_embeddings:
            self.head.weight = self.embedding.weight
        self._rotary = Rotary(a.head_width, a.rope_theta)
        self._usages: list[Usage | None] | None = None

    def forward(self, tokens_BS: Tensor, cache: KVCache | None = None) -> Output:
        """Map tokens to the logits of the next token at every position.

        Args:
            tokens_BS: int64 [B, S].
            cache: Earlier tokens; the new ones follow them, and are added to it.

        Returns:
            Logits [B, S, vocabulary] and the auxiliary loss, a scalar.

        Raises:
            ConfigError: The cache has no space left, or the model is in training mode, in which a token's logits may
                depend on tokens that are not cached.
        """
        if cache is not None and self.training:
            raise ConfigError("a cache was given to a model in training; it is for evaluation: call eval() first")
        x_BSD = self.embedding(tokens_BS)
        new_positions = None if cache is None else cache.reserve(*tokens_BS.shape)
        rotations = self._rotary.rotations(
            tokens_BS.shape[1] if new_positions is None else new_positions.num_held, x_BSD
        )
        if new_positions is not None:
            rotations = rotations[new_positions.positions]
        usages = self._usages if not self.training and self._usages is not None else [None] * len(self.blocks)
        auxiliary_loss = x_BSD.new_zeros(())
        late: dict[int, Tensor] = {}
        for layer, (block, usage) in enumerate(zip(self.blocks, usages, strict=True)):
            held = None if cache is None or new_positions is None else cache.layer(layer, new_positions)
            x_BSD, loss, output_BSD = block(x_BSD, rotations, self.table, usage, held)
            if output_BSD is not None:
                late[layer + self.architecture.skip] = output_BSD
            if layer in late:
                x_BSD = x_BSD + late.pop(layer)
            if loss is not None:
                auxiliary_loss = auxiliary_loss + loss
        return Output(logits_BSV=self.head(self.norm(x_BSD)), auxiliary_loss=auxiliary_loss)

    def is_noncausal(self, training: bool) -> bool:
        """Whether a later token can change an earlier one's logits in that mode; never in evaluation."""
        slots = [part for part in self.modules() if isinstance(part, MoEFeedForward | ProductKeySelection)]
        return any(slot.is_noncausal(training) for slot in slots)

    def start_statistics(self) -> None:
        """Start to count, in evaluation mode, how slots and experts are used."""
        a = self.architecture
        sizes = {
            "moe": a.moe.num_experts if a.moe is not None else 0,
            "memory": a.memory.num_slots if a.memory is not None else 0,
            "peer": a.peer.num_slots if a.peer is not None else 0,
        }
        kinds = [a.sparse_kind(layer) for layer in range(a.num_layers)]
        shared = Usage(sizes["memory"]) if self.table is not None else None
        self._usages = [
            None if kind is None else shared if kind == "memory" and shared is not None else Usage(sizes[kind])
            for kind in kinds
        ]

    def statistics(self) -> dict[str, float]:
        """Return what was counted since `start_statistics`, and stop counting; empty for a dense model.

        A shared table, over all layers: `memory_used_share` of the slots; and of the weights' magnitudes `memory_kl`
        (divergence from uniform, nats), `memory_gini` and `memory_top_percent_share`. Tables of a layer l: the same
        with `_<l>`, PEER as `peer_...`. Experts, per layer: `moe_max_load_share_<l>` of the fullest, `moe_kl_<l>`,
        `moe_gini_<l>` and `moe_top_percent_share_<l>`.
        """
        usages, self._usages = self._usages or [], None
        values: dict[str, float] = {}
        for layer, usage in enumerate(usages):
            if usage is None:
                continue
            kind = self.architecture.sparse_kind(layer)
            suffix = "" if kind == "memory" and self.table is not None else f"_{layer}"
            if kind == "moe":
                values[f"moe_max_load_share{suffix}"] = usage.max_share
            else:
                values[f"{kind}_used_share{suffix}"] = usage.used_share
            values[f"{kind}_kl{suffix}"] = usage.kl_from_uniform
            values[f"{kind}_gini{suffix}"] = usage.gini
            values[f"{kind}_top_percent_share{suffix}"] = usage.top_percent_share
        return values


def build(
    architecture: Architecture,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    table_dtype: torch.dtype | None = None,
    table_placement: TablePlacement = ON_DEVICE,
) -> Transformer:
    """Return a model with all weights drawn from `seed`: the same on every device, up to rounding to `dtype`.

    The model is first made on the meta device, so that nothing is allocated twice.

    Args:
        architecture: What to build.
        seed: Of the initial weights (`memscale.models.initialise`).
        device: Where parameters and buffers are allocated.
        dtype: Type of all parameters but tables; buffers have at least this precision.
        table_dtype: Type of tables; `dtype` by default.
        table_placement: Where tables are allocated.

    Raises:
        ConfigError: There is no space for the tables.

    Example:
        A model whose second layer is a memory layer with 64 x 64 slots of width 16:

        >>> from memscale.config.architecture import Architecture
        >>> from memscale.config.layers import Memory
        >>> memory = Memory(layers=(1,), num_keys=64, num_heads=2, knn=4, key_width=8, value_width=16)
        >>> architecture = Architecture(
        ...     family="memory_plus", d_model=16, num_layers=2, num_heads=2, num_kv_heads=2, head_width=8,
        ...     ffn_hidden=32, vocab_size=100, memory=memory,
        ... )
        >>> model = build(architecture, seed=1)
        >>> model(torch.zeros(1, 5, dtype=torch.int64)).logits_BSV.shape
        torch.Size([1, 5, 100])
        >>> count_parameters(model).table
        65536
    """
    with torch.device("meta"):
        model = Transformer(architecture)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(parameter, MemoryTable):
                setattr(module, name, allocate_table(table_placement, parameter.shape, table_dtype or dtype, device))
            else:
                setattr(module, name, nn.Parameter(torch.empty(parameter.shape, dtype=dtype, device=device)))
        _make_buffers(module, dtype, device)
    if architecture.tied_embeddings:
        model.head.weight = model.embedding.weight
    initialise(model, architecture, seed)
    return model


def _make_buffers(module: nn.Module, dtype: torch.dtype, device: str | torch.device) -> None:
    """Allocate a module's buffers, with at least the precision of `dtype`: zero, but for a batch norm's variance."""
    for name, buffer in list(module.named_buffers(recurse=False)):
        kind = torch.promote_types(buffer.dtype, dtype) if buffer.is_floating_point() else buffer.dtype
        setattr(module, name, torch.zeros(buffer.shape, dtype=kind, device=device))
    if isinstance(module, QueryBatchNorm):
        module.reset_buffers()
