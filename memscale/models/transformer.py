"""The decoder: embedding, blocks of attention and a feed-forward slot, each after an RMSNorm, a last norm and the head.

A slot is dense, experts or a memory layer, as the architecture says. The model owns the one table that its memory
layers read. `build` makes a model on the meta device first, so that nothing is allocated twice, and fills in every
parameter from the seed.

B batch, S positions, D model width, V vocabulary, T = B S tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memscale.config.architecture import Architecture
from memscale.models.attention import Attention
from memscale.models.counts import ParameterCounts, count_parameters
from memscale.models.feedforward import FeedForward
from memscale.models.initialise import initialise
from memscale.models.memory import MemoryLayer
from memscale.models.moe import MoEFeedForward
from memscale.models.rotary import Rotary
from memscale.models.usage import Usage

__all__ = ["Output", "ParameterCounts", "Transformer", "build", "count_parameters"]


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a forward pass gives."""

    logits_BSV: Tensor  # noqa: N815
    auxiliary_loss: Tensor
    """Scalar: the expert layers' weighted balance and z-losses, added up; zero in a model without experts."""


class Block(nn.Module):
    """One layer. Adds to the residual stream; returns the layer's auxiliary loss where it has one."""

    def __init__(self, architecture: Architecture, layer: int) -> None:
        super().__init__()
        a = architecture
        self.attention_norm = nn.RMSNorm(a.d_model, eps=a.norm_eps)
        self.attention = Attention(a)
        self.slot_norm = nn.RMSNorm(a.d_model, eps=a.norm_eps)
        self.slot: FeedForward | MoEFeedForward | MemoryLayer
        kind = a.slot(layer)
        if kind == "moe":
            assert a.moe is not None
            self.slot = MoEFeedForward(a.d_model, a.moe)
        elif kind == "memory":
            assert a.memory is not None
            self.slot = MemoryLayer(a.d_model, a.memory, a.norm_eps)
        else:
            self.slot = FeedForward(a.d_model, a.ffn_hidden)

    def forward(
        self, x_BSD: Tensor, turns_S1P: Tensor, table_NV: Tensor | None, usage: Usage | None
    ) -> tuple[Tensor, Tensor | None]:
        x_BSD = x_BSD + self.attention(self.attention_norm(x_BSD), turns_S1P)
        x_TD = self.slot_norm(x_BSD).flatten(0, 1)
        loss = None
        if isinstance(self.slot, MoEFeedForward):
            out_TD, loss = self.slot(x_TD, usage)
        elif isinstance(self.slot, MemoryLayer):
            out_TD = self.slot(x_TD, table_NV, usage)
        else:
            out_TD = self.slot(x_TD)
        return x_BSD + out_TD.view_as(x_BSD), loss


class Transformer(nn.Module):
    """A model of `architecture`. `build` gives one with weights; the bare constructor leaves them unset."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        self.architecture = a
        # Given its weight, the embedding draws none: on the meta device that would load the compiler, in over a second.
        self.embedding = nn.Embedding(a.vocab_size, a.d_model, _weight=torch.empty(a.vocab_size, a.d_model))
        self.table: nn.Parameter | None = None
        """The values [num_slots, value_width] that all memory layers of this model read; None without memory."""
        if a.memory is not None:
            self.table = nn.Parameter(torch.empty(a.memory.num_slots, a.memory.value_width))
        self.blocks = nn.ModuleList(Block(a, layer) for layer in range(a.num_layers))
        self.norm = nn.RMSNorm(a.d_model, eps=a.norm_eps)
        self.head = nn.Linear(a.d_model, a.vocab_size, bias=False)
        if a.tied_embeddings:
            self.head.weight = self.embedding.weight
        self._rotary = Rotary(a.head_width, a.rope_theta)
        self._usages: list[Usage | None] | None = None

    def forward(self, tokens_BS: Tensor) -> Output:
        """Map int64 tokens to the next token's logits at every position."""
        x_BSD = self.embedding(tokens_BS)
        turns_S1P = self._rotary.turns(tokens_BS.shape[1], x_BSD)
        usages = self._usages if not self.training and self._usages is not None else [None] * len(self.blocks)
        auxiliary_loss = x_BSD.new_zeros(())
        for block, usage in zip(self.blocks, usages, strict=True):
            x_BSD, loss = block(x_BSD, turns_S1P, self.table, usage)
            if loss is not None:
                auxiliary_loss = auxiliary_loss + loss
        return Output(logits_BSV=self.head(self.norm(x_BSD)), auxiliary_loss=auxiliary_loss)

    def start_statistics(self) -> None:
        """Begin anew to count, in evaluation mode, which slots and experts are used."""
        a = self.architecture
        slots = Usage(a.memory.num_slots) if a.memory is not None else None
        self._usages = [
            Usage(a.moe.num_experts) if a.moe is not None and a.slot(layer) == "moe"
            else slots if a.slot(layer) == "memory"
            else None
            for layer in range(a.num_layers)
        ]  # fmt: skip

    def statistics(self) -> dict[str, float]:
        """Return what was counted since `start_statistics`, and stop counting; empty for a dense model.

        Memory, all layers together: `memory_used_share` of the slots, `memory_kl` of the softmax weights' use from
        uniform, in nats. Experts, per layer l: `moe_max_load_share_<l>` of the fullest, `moe_kl_<l>` in nats.
        """
        usages, self._usages = self._usages or [], None
        values: dict[str, float] = {}
        for layer, usage in enumerate(usages):
            if usage is None:
                continue
            if self.architecture.slot(layer) == "memory":
                values["memory_used_share"] = usage.used_share
                values["memory_kl"] = usage.kl_from_uniform
            else:
                values[f"moe_max_load_share_{layer}"] = usage.max_share
                values[f"moe_kl_{layer}"] = usage.kl_from_uniform
        return values


def build(
    architecture: Architecture,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Transformer:
    """Return a model with all weights drawn from `seed`: the same on every device, up to the rounding to `dtype`."""
    with torch.device("meta"):
        model = Transformer(architecture)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(torch.empty(parameter.shape, dtype=dtype, device=device)))
    if architecture.tied_embeddings:
        model.head.weight = model.embedding.weight
    initialise(model, architecture, seed)
    return model
