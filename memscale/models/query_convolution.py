"""A depthwise causal convolution over the inputs of a memory layer's queries (UltraMem; Huang et al. 2024).

The query of a token is a linear map of sum over j < C of weight[:, j] * x[t - j], element by element: it sees the C - 1
tokens before it too. Before the first token x is zero. It is computed in float32 at least, and as C shifted products,
whose gradients add up in a fixed order.

With a cache the inputs of earlier tokens are taken from it, so that the result is that of all tokens at once.

Shape suffixes: B sequences, S positions, D model width, C width of the convolution, P = C - 1 + S.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memscale.models.cache import LayerCache
from memscale.models.precision import promoted


class QueryConvolution(nn.Module):
    """The convolution's weights [D, C]; column j multiplies the input j tokens back."""

    def __init__(self, d_model: int, width: int) -> None:
        super().__init__()
        self._width = width
        self.weight = nn.Parameter(torch.empty(d_model, width))

    def forward(self, x_BSD: Tensor, cache: LayerCache | None) -> Tensor:
        """Return [B, S, D]; the new inputs are added to `cache`, which holds the earlier ones, if it is given."""
        if cache is None:
            padded_BPD = nn.functional.pad(promoted(x_BSD), (0, 0, self._width - 1, 0))
        else:
            padded_BPD = promoted(torch.cat([cache.before("query_conv", self._width - 1, x_BSD), x_BSD], dim=1))
        length, weight_DC = x_BSD.shape[1], promoted(self.weight)
        out_BSD = padded_BPD[:, self._width - 1 :] * weight_DC[:, 0]
        for back in range(1, self._width):
            first = self._width - 1 - back
            out_BSD = out_BSD + padded_BPD[:, first : first + length] * weight_DC[:, back]
        return out_BSD
