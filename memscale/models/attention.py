"""Causal self-attention with grouped queries (Ainslie et al. 2023) and rotary positions, through torch's SDPA.

Shape suffixes: B batch, S positions, K key positions, D model width, H heads, G key/value heads, W width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memscale.config.architecture import Architecture
from memscale.models.cache import LayerCache
from memscale.models.rotary import rotate


class Attention(nn.Module):
    """Queries, keys and values from one matrix, whose rows are in this order; no biases."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        self._num_heads, self._num_kv_heads, self._head_width = a.num_heads, a.num_kv_heads, a.head_width
        self.qkv = nn.Linear(a.d_model, (a.num_heads + 2 * a.num_kv_heads) * a.head_width, bias=False)
        self.out = nn.Linear(a.num_heads * a.head_width, a.d_model, bias=False)

    def forward(
        self, x_BSD: Tensor, rotations: Tensor, cache: LayerCache | None = None, added_BSV: Tensor | None = None
    ) -> Tensor:
        """Return [B, S, D].

        Args:
            x_BSD: The normalised residual stream.
            rotations: Complex [S, 1, P], or [B, S, 1, P] per sequence (`memscale.models.rotary`).
            cache: Keys and values of earlier positions, which come first; the new ones are added to it.
            added_BSV: What all values of a position get, if given (`memscale.models.token_table.ValueTable`).
        """
        heads_BSHW = self.qkv(x_BSD).unflatten(-1, (-1, self._head_width))
        # split, not slices: the gradient of a slice is a tensor of zeros to fill and to add.
        to_rotate_BSHW, values_BSGW = torch.split(
            heads_BSHW, [self._num_heads + self._num_kv_heads, self._num_kv_heads], dim=2
        )
        if added_BSV is not None:
            values_BSGW = values_BSGW + added_BSV.to(values_BSGW.dtype).view_as(values_BSGW)
        rotated_BSHW = rotate(to_rotate_BSHW, rotations)
        queries_BSHW, keys_BSGW = torch.split(rotated_BSHW, [self._num_heads, self._num_kv_heads], dim=2)
        if cache is None:
            keys_BGKW, values_BGKW, mask = keys_BSGW.transpose(1, 2), values_BSGW.transpose(1, 2), None
        else:
            keys_BGKW, values_BGKW = cache.extend(keys_BSGW, values_BSGW)
            mask = cache.new_positions.mask
        mixed_BHSW = F.scaled_dot_product_attention(
            queries_BSHW.transpose(1, 2),
            keys_BGKW,
            values_BGKW,
            attn_mask=mask,
            is_causal=mask is None and x_BSD.shape[1] > 1,
            enable_gqa=self._num_heads != self._num_kv_heads,
        )
        mixed_BSD: Tensor = self.out(mixed_BHSW.transpose(1, 2).flatten(2))
        return mixed_BSD
