"""Keys and values of the tokens read so far, kept so that a next token needs one position's work instead of all.

Room for all positions is taken at once; every row has a length of its own, so that prompts of different lengths
generate together: they are read padded on the right, `rewind` says how long each really is, and what comes next takes
the place of the padding. A key beyond a row's position is never looked at. For evaluation only, without gradients.
Refuses more positions than there is room for.

B rows, S new positions, K positions held, G key/value heads, W width of a head, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memscale.config.architecture import Architecture
from memscale.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the new tokens of one forward pass stand; the same for every layer."""

    positions: slice | Tensor
    """A slice where all rows are as long, else int64 [B, S]."""
    num_held: int
    """Positions to look at, the new ones included: 1 + the last position of any row."""
    mask: Tensor | None
    """Boolean [B or 1, 1, S, K], true where a new position may look. None where S is 1 and it may look everywhere, or
    where K is S and each looks at itself and those before."""


class LayerCache:
    """One layer's part of a cache during one forward pass."""

    def __init__(self, keys_BGKW: Tensor, values_BGKW: Tensor, places: Places) -> None:
        self._keys_BGKW, self._values_BGKW, self.places = keys_BGKW, values_BGKW, places

    def extend(self, keys_BSGW: Tensor, values_BSGW: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the new positions' keys (turned) and values; return all [B, G, K, W] there are to look at."""
        places = self.places
        for held_BGKW, new_BSGW in ((self._keys_BGKW, keys_BSGW), (self._values_BGKW, values_BSGW)):
            if isinstance(places.positions, slice):
                held_BGKW[:, :, places.positions] = new_BSGW.transpose(1, 2)
            else:
                rows_B1 = torch.arange(len(new_BSGW), device=new_BSGW.device)[:, None]
                held_BGKW[rows_B1, :, places.positions] = new_BSGW
        return self._keys_BGKW[:, :, : places.num_held], self._values_BGKW[:, :, : places.num_held]


class KVCache:
    """An empty cache for `num_rows` sequences of at most `capacity` tokens."""

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
        # Zeros, for what is masked is still multiplied, by zero: it must be finite.
        self._held_2LBGKW = torch.zeros(shape, device=device, dtype=dtype)
        self._lengths = [0] * num_rows

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many tokens of each row were read."""
        return tuple(self._lengths)

    def place(self, num_rows: int, num_new: int) -> Places:
        """Take room for `num_new` more tokens in every row. Raises ConfigError where there is not as much."""
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
            return Places(positions=positions, num_held=num_held, mask=mask)
        starts_B1 = torch.tensor(starts, device=self._device)[:, None]
        positions_BS = starts_B1 + torch.arange(num_new, device=self._device)
        return Places(positions=positions_BS, num_held=num_held, mask=self._mask(positions_BS, num_held))

    def layer(self, layer: int, places: Places) -> LayerCache:
        """Return the part of one layer."""
        return LayerCache(self._held_2LBGKW[0, layer], self._held_2LBGKW[1, layer], places)

    def rewind(self, lengths: Sequence[int]) -> None:
        """Forget what each row holds beyond its first `lengths` tokens: padding, or a draft."""
        assert len(lengths) == len(self._lengths)
        assert all(0 <= new <= old for new, old in zip(lengths, self._lengths, strict=True))
        self._lengths = list(lengths)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows only, in this order; there may be none left."""
        self._held_2LBGKW = self._held_2LBGKW[:, :, torch.tensor(rows, dtype=torch.int64, device=self._device)]
        self._lengths = [self._lengths[row] for row in rows]

    def _mask(self, positions_BS: Tensor, num_held: int) -> Tensor:
        held_K = torch.arange(num_held, device=self._device)
        return (held_K <= positions_BS[..., None])[:, None]
