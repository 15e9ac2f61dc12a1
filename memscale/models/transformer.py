"""The decoder: embedding, blocks (`memscale.models.block`), a norm and the head.

The model owns the table that its memory layers share; layers own the tables that are not shared. A looped model applies
some blocks several times, each time with a part of the cache of its own.

Shape suffixes: B batch, S positions, D model width, V vocabulary, K rows read; for a table N slots and V width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memscale.config.architecture import Architecture
from memscale.errors import ConfigError
from memscale.kernels.memory_table import MemoryTable, allocate_table
from memscale.kernels.table_placement import ON_DEVICE, TablePlacement
from memscale.models.block import NO_USAGES, Block
from memscale.models.cache import CachePositions, KVCache
from memscale.models.counts import ParameterCounts, count_parameters
from memscale.models.initialise import initialise
from memscale.models.looping import Injection, Recurrences, StateChanges
from memscale.models.moe import MoEFeedForward
from memscale.models.ngram import NGramLayer
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
        self.injection = Injection(a.d_model) if a.loop is not None and a.loop.injection == "concatenate" else None
        self.norm = nn.RMSNorm(a.d_model, eps=a.norm_eps)
        self.head = nn.Linear(a.d_model, a.vocab_size, bias=False)
        if a.tied_embeddings:
            self.head.weight = self.embedding.weight
        self._rotary = Rotary(a.head_width, a.rope_theta)
        self._usages: list[dict[str, Usage]] | None = None
        self._state_changes: StateChanges | None = None

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
        usages = self._usages if not self.training else None
        rows = self.ngram_rows(tokens_BS, cache, new_positions)
        auxiliary_loss = x_BSD.new_zeros(())
        changes = None if self.training else self._state_changes
        recurrences = Recurrences(self.architecture.loop, self.injection, changes)
        late: dict[int, list[Tensor]] = {}
        for position, layer in enumerate(self.architecture.applied_layers):
            held = None if cache is None or new_positions is None else cache.layer(position, new_positions)
            used = NO_USAGES if usages is None else usages[layer]
            x_BSD = recurrences.before(layer, x_BSD)
            block, read = self.blocks[layer], rows.get(layer)
            x_BSD, loss, late_BSD = block(x_BSD, rotations, self.table, tokens_BS, used, held, read)
            if late_BSD is not None:
                late.setdefault(self.architecture.beside_end(layer), []).append(late_BSD)
            for late_BSD in late.pop(layer, []):
                x_BSD = x_BSD + late_BSD
            recurrences.after(layer, x_BSD)
            if loss is not None:
                auxiliary_loss = auxiliary_loss + loss
        return Output(logits_BSV=self.head(self.norm(x_BSD)), auxiliary_loss=auxiliary_loss)

    def ngram_rows(
        self, tokens_BS: Tensor, cache: KVCache | None = None, new_positions: CachePositions | None = None
    ) -> dict[int, Tensor]:
        """Return the rows that the tokens read in each layer with n-gram memory, int64 [B, S, K], by layer.

        Args:
            tokens_BS: int64 [B, S].
            cache: Earlier tokens; these are stored in it.
            new_positions: Where these stand in it.
        """
        parts = ((layer, block.ngram) for layer, block in enumerate(self.blocks))
        layers = {layer: part for layer, part in parts if isinstance(part, NGramLayer)}
        if not layers:
            return {}
        earlier_BH = None
        if cache is not None and new_positions is not None:
            history = next(iter(layers.values())).addresses.history
            earlier_BH = cache.tokens_before(history, tokens_BS, new_positions)
        return {layer: part.addresses(tokens_BS, earlier_BH) for layer, part in layers.items()}

    def is_noncausal(self, training: bool) -> bool:
        """Whether a later token can change an earlier one's logits in that mode; never in evaluation."""
        slots = [part for part in self.modules() if isinstance(part, MoEFeedForward | ProductKeySelection)]
        return any(slot.is_noncausal(training) for slot in slots)

    def start_statistics(self) -> None:
        """Start to count, in evaluation mode, how slots and experts are used and how far recurrences move the state."""
        a = self.architecture
        self._state_changes = StateChanges(a.loop.recurrences) if a.loop is not None else None
        shared = {"memory": Usage(a.memory.num_slots)} if a.memory is not None and self.table is not None else {}
        self._usages = [
            {name: shared.get(name) or Usage(_size(a, name, layer)) for name in _COUNTED_PARTS if _has(a, name, layer)}
            for layer in range(a.num_layers)
        ]

    def statistics(self) -> dict[str, float]:
        """Return what was counted since `start_statistics`, and stop counting; empty for a dense model.

        A shared table, over all layers: `memory_used_share` of the slots; and of the weights' magnitudes `memory_kl`
        (divergence from uniform, nats), `memory_gini` and `memory_top_percent_share`. Tables of a layer l: the same
        with `_<l>`, PEER as `peer_...`, n-gram tables as `ngram_...`, of the rows read. Experts, per layer:
        `moe_max_load_share_<l>` of the fullest, `moe_kl_<l>`, `moe_gini_<l>` and `moe_top_percent_share_<l>`. A loop,
        for each recurrence i from 1: `loop_change_<i>` (`memscale.models.looping.StateChanges`).
        """
        usages, self._usages = self._usages or [], None
        changes, self._state_changes = self._state_changes, None
        values: dict[str, float] = {} if changes is None else changes.values()
        for layer, used in enumerate(usages):
            for kind, usage in used.items():
                suffix = "" if kind == "memory" and self.table is not None else f"_{layer}"
                if kind == "moe":
                    values[f"moe_max_load_share{suffix}"] = usage.max_share
                else:
                    values[f"{kind}_used_share{suffix}"] = usage.used_share
                values[f"{kind}_kl{suffix}"] = usage.kl_from_uniform
                values[f"{kind}_gini{suffix}"] = usage.gini
                values[f"{kind}_top_percent_share{suffix}"] = usage.top_percent_share
        return values


_COUNTED_PARTS = ("moe", "memory", "peer", "ngram")
"""Parts whose use is counted; that of a token table is the text's, whatever the model."""


def _has(a: Architecture, name: str, layer: int) -> bool:
    part = a.parts.get(name)
    return part is not None and layer in part.layers


def _size(a: Architecture, name: str, layer: int) -> int:
    """Return the experts, slots or rows of a part in a layer."""
    if name == "ngram":
        assert a.ngram is not None
        return a.ngram.table_rows(a.ngram.layers.index(layer))
    if name == "moe":
        assert a.moe is not None
        return a.moe.num_experts
    keyed = a.memory if name == "memory" else a.peer
    assert keyed is not None
    return keyed.num_slots


def build(
    architecture: Architecture,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    table_dtype: torch.dtype | None = None,
    table_placement: TablePlacement = ON_DEVICE,
    init: str = "scaled",
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
        init: The rule of the initial weights: `scaled` or `published`.

    Raises:
        ConfigError: There is no space for the tables, or `init` is no rule.

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
    initialise(model, architecture, seed, init)
    return model


def _make_buffers(module: nn.Module, dtype: torch.dtype, device: str | torch.device) -> None:
    """Allocate a module's buffers, with at least the precision of `dtype`: zero, but for a batch norm's variance."""
    for name, buffer in list(module.named_buffers(recurse=False)):
        kind = torch.promote_types(buffer.dtype, dtype) if buffer.is_floating_point() else buffer.dtype
        setattr(module, name, torch.zeros(buffer.shape, dtype=kind, device=device))
    if isinstance(module, QueryBatchNorm):
        module.reset_buffers()
