"""A key/value cache: generating a token costs one position's work instead of all positions'.

Space for all positions is allocated at once. Every sequence has a length of its own, so that prompts of different
lengths generate together: they are padded on the right, `truncate` sets how long each really is, and the next tokens
overwrite the padding. A key beyond a sequence's position is never attended to. For evaluation only, without gradients.

Layers whose queries are convolved (`query_conv`) have their inputs cached too, at all positions, so that `truncate` can
go back to any length.

Shape suffixes: B sequences, S new positions, K positions held, G key/value heads, W width of a head, L layers, D model
width, P positions of a convolution's inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memscale.config.architecture import Architecture
from memscale.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class CachePositions:
    """Positions of the new tokens of one forward pass; the same for every layer."""

    positions: slice | Tensor
    """A slice if all sequences have one length, else int64 [B, S]."""
    num_held: int
    """Key positions, the new ones included: 1 + the last position of any sequence."""
    mask: Tensor | None
    """Boolean [B or 1, 1, S, K], true where a new position attends. None if S is 1 and it attends to all, or if K is S
    and attention is causal."""


class LayerCache:
    """One layer's part of a cache during one forward pass."""

    def __init__(
        self, keys_BGKW: Tensor, values_BGKW: Tensor, new_positions: CachePositions, inputs_BKD: Tensor | None = None
    ) -> None:
        self._keys_BGKW, self._values_BGKW, self.new_positions = keys_BGKW, values_BGKW, new_positions
        self._inputs_BKD = inputs_BKD

    def extend(self, keys_BSGW: Tensor, values_BSGW: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new positions' keys (rotated) and values; return all keys and values [B, G, K, W]."""
        new_positions = self.new_positions
        for held_BGKW, new_BSGW in ((self._keys_BGKW, keys_BSGW), (self._values_BGKW, values_BSGW)):
            if isinstance(new_positions.positions, slice):
                held_BGKW[:, :, new_positions.positions] = new_BSGW.transpose(1, 2)
            else:
                rows_B1 = torch.arange(len(new_BSGW), device=new_BSGW.device)[:, None]
                held_BGKW[rows_B1, :, new_positions.positions] = new_BSGW
        return self._keys_BGKW[:, :, : new_positions.num_held], self._values_BGKW[:, :, : new_positions.num_held]

    def extend_inputs(self, x_BSD: Tensor, num_before: int) -> Tensor:
        """Store the new positions' inputs; return them after the `num_before` inputs that come before, [B, P, D].

        Inputs before the first token are zero.
        """
        inputs_BKD = self._inputs_BKD
        assert inputs_BKD is not None, "this layer's inputs are not cached: its queries are not convolved"
        num_rows, num_new = x_BSD.shape[:2]
        positions = self.new_positions.positions
        if isinstance(positions, slice):
            positions = torch.arange(positions.start, positions.stop, device=x_BSD.device).expand(num_rows, -1)
        rows_B1 = torch.arange(num_rows, device=x_BSD.device)[:, None]
        inputs_BKD[rows_B1, positions] = x_BSD.to(inputs_BKD.dtype)
        steps_P = torch.arange(-num_before, num_new, device=x_BSD.device)
        wanted_BP = positions[:, :1] + steps_P
        found_BPD = inputs_BKD[rows_B1, wanted_BP.clamp(min=0)]
        return torch.where(wanted_BP[..., None] < 0, torch.zeros_like(found_BPD), found_BPD)


class KVCache:
    """An empty cache for `num_rows` sequences of at most `capacity` tokens.

    Args:
        architecture: The model's.
        num_rows: Sequences.
        capacity: Tokens of the longest sequence, padding included.
        device: Where keys and values are held.
        dtype: Their type.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        num_rows: int,
        capacity: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        a = architecture
        self.capacity, self._device = capacity, torch.device(device)
        shape = (2, a.num_layers, num_rows, a.num_kv_heads, capacity, a.head_width)
        # Zeros: masked values are still multiplied by zero, so they have to be finite.
        self._held_2LBGKW = torch.zeros(shape, device=device, dtype=dtype)
        part = a.memory or a.peer
        convolved = part.layers if part is not None and part.query_conv is not None else ()
        inputs = (num_rows, capacity, a.d_model)
        self._inputs_BKD = {layer: torch.zeros(inputs, device=device, dtype=dtype) for layer in convolved}
        self._lengths = [0] * num_rows

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens held of each sequence."""
        return tuple(self._lengths)

    def reserve(self, num_rows: int, num_new: int) -> CachePositions:
        """Reserve positions for `num_new` more tokens in every sequence.

        Raises:
            ConfigError: There is no space for them, or the number of sequences differs.
        """
        starts = self._lengths
        if num_rows != len(starts):
            raise ConfigError(f"{num_rows} sequences were given to a cache of {len(starts)}; give it as many")
        first, longest = min(starts), max(starts)
        if longest + num_new > self.capacity:
            raise ConfigError(
                f"a cache of {self.capacity} positions holds {longest} tokens and cannot take {num_new} more; "
                "make it larger, or give it fewer"
            )
        self._lengths = [start + num_new for start in starts]
        num_held = longest + num_new
        if first == longest:
            positions = slice(first, num_held)
            mask = None
            if first and num_new > 1:
                mask = self._mask(torch.arange(first, num_held, device=self._device)[None], num_held)
            return CachePositions(positions=positions, num_held=num_held, mask=mask)
        starts_B1 = torch.tensor(starts, device=self._device)[:, None]
        positions_BS = starts_B1 + torch.arange(num_new, device=self._device)
        return CachePositions(positions=positions_BS, num_held=num_held, mask=self._mask(positions_BS, num_held))

    def layer(self, layer: int, new_positions: CachePositions) -> LayerCache:
        """Return one layer's part."""
        keys_BGKW, values_BGKW = self._held_2LBGKW[:, layer]
        return LayerCache(keys_BGKW, values_BGKW, new_positions, self._inputs_BKD.get(layer))

    def truncate(self, lengths: Sequence[int]) -> None:
        """Drop what each sequence holds beyond its first `lengths` tokens: padding, or a draft."""
        assert len(lengths) == len(self._lengths)
        assert all(0 <= new <= old for new, old in zip(lengths, self._lengths, strict=True))
        self._lengths = list(lengths)

    def select_rows(self, rows: Sequence[int]) -> None:
        """Keep these sequences only, in this order; there may be none left."""
        kept = torch.tensor(rows, dtype=torch.int64, device=self._device)
        self._held_2LBGKW = self._held_2LBGKW[:, :, kept]
        self._inputs_BKD = {layer: inputs_BKD[kept] for layer, inputs_BKD in self._inputs_BKD.items()}
        self._lengths = [self._lengths[row] for row in rows]

    def _mask(self, positions_BS: Tensor, num_held: int) -> Tensor:
        held_K = torch.arange(num_held, device=self._device)
        return (held_K <= positions_BS[..., None])[:, None]
