"""Hashed n-gram memory in front of a layer's attention (Engram, Cheng et al. 2026, arXiv 2601.07372).

1. Addresses: for every order n and head h, row = mix_n mod size(n, h), where mix_n is the exclusive or over k < n of
   x_(t-k) m_k, with x the token ids and m_k odd multipliers of the layer. The token that ends a document, and what
   lies before it, count as that token: no address joins two documents.
2. e is the concatenation of the rows, over orders and heads; k = W_K e and v = W_V e.
3. g = RMS(x) . RMS(k) / sqrt(D), where x is the residual stream, each norm with a gain of its own; with `signed_root`
   sign(g) sqrt(max(|g|, 1e-6)) in its place. u = sigmoid(g) v.
4. The residual stream gets u, or with a convolution u + silu(conv(RMS(u))): depthwise, causal, `conv_width` tokens at
   distances of the largest order, zero at the start of training.

Shape suffixes: B batch, S positions, T = B S tokens, D model width, K rows per token, N rows of the table.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memscale.config.token_layers import NGram
from memscale.kernels.memory_table import MemoryTable
from memscale.kernels.row_lookup import row_lookup
from memscale.models.cache import LayerCache
from memscale.models.precision import promoted
from memscale.models.usage import Usage

DOCUMENT_END = 0
"""The token that ends a document in every vocabulary (`memscale.data.tokenizer`)."""
_LAYER_SEED = 10_007
_LEAST_ROOT = 1e-6


class NGramAddresses:
    """The rows that tokens read in one layer: a pure function of the token ids.

    Args:
        ngram: What is hashed.
        which: The layer's place in `ngram.layers`.
        vocab_size: Of the token ids.

    Example:
        >>> ngram = NGram(layers=(0,), orders=(2,), num_heads=2, rows_per_head=10, row_width=4)
        >>> addresses = NGramAddresses(ngram, 0, vocab_size=50)
        >>> rows = addresses(torch.tensor([[7, 8, 7, 8]]))
        >>> rows.shape, bool((rows[0, 1] == rows[0, 3]).all())
        (torch.Size([1, 4, 2]), True)
    """

    def __init__(self, ngram: NGram, which: int, vocab_size: int) -> None:
        sizes = ngram.table_sizes(which)
        self._orders, self._num_heads = ngram.orders, ngram.num_heads
        self.history = max(ngram.orders) - 1
        """Earlier tokens that an address depends on."""
        high = (2**63 - 1) // vocab_size // 2
        generator = np.random.default_rng(ngram.hash_seed + _LAYER_SEED * ngram.layers[which])
        self._multipliers = [2 * int(u) + 1 for u in generator.integers(0, high, size=self.history + 1)]
        # Numbers, not tensors: a model is made on the meta device, where these would have no values.
        self._sizes, self._offsets = sizes, (0, *itertools.accumulate(sizes[:-1]))

    def __call__(self, tokens_BS: Tensor, earlier_BH: Tensor | None = None) -> Tensor:
        """Return the rows of every token, int64 [B, S, K].

        Args:
            tokens_BS: int64 [B, S].
            earlier_BH: The tokens before them, [B, `history`]; None: a document begins.
        """
        if earlier_BH is None:
            earlier_BH = tokens_BS.new_full((len(tokens_BS), self.history), DOCUMENT_END)
        seen_BP = torch.cat([earlier_BH, tokens_BS], dim=1)
        num_new = tokens_BS.shape[1]
        earlier_BS, mixes = tokens_BS, []
        mix_BS = tokens_BS * self._multipliers[0]
        for back in range(1, self.history + 1):
            start = self.history - back
            at_BS = seen_BP[:, start : start + num_new]
            if back > 1:  # beyond the end of a document everything is that end
                at_BS = torch.where(earlier_BS == DOCUMENT_END, DOCUMENT_END, at_BS)
            earlier_BS = at_BS
            mix_BS = mix_BS ^ (at_BS * self._multipliers[back])
            if back + 1 in self._orders:
                mixes.append(mix_BS)
        mixes_BSK = torch.stack(mixes, dim=-1).repeat_interleave(self._num_heads, dim=-1)
        sizes_K, offsets_K = torch.tensor([self._sizes, self._offsets], device=tokens_BS.device)
        rows_BSK: Tensor = mixes_BSK % sizes_K + offsets_K
        return rows_BSK


class NGramLayer(nn.Module):
    """The table [N, row_width] of one layer, W_K and W_V in one matrix (`key_value`), the norms and the convolution."""

    def __init__(self, d_model: int, ngram: NGram, layer: int, vocab_size: int, norm_eps: float) -> None:
        super().__init__()
        which = ngram.layers.index(layer)
        self.addresses = NGramAddresses(ngram, which, vocab_size)
        self._signed_root, self._norm_eps = ngram.signed_root, norm_eps
        self._spacing, self._conv_width = max(ngram.orders), ngram.conv_width
        self.table = MemoryTable(torch.empty(ngram.table_rows(which), ngram.row_width))
        self.key_value = nn.Linear(ngram.memory_width, 2 * d_model, bias=False)
        self.hidden_norm = nn.RMSNorm(d_model, eps=norm_eps)
        self.key_norm = nn.RMSNorm(d_model, eps=norm_eps)
        if self._conv_width:
            self.conv_norm = nn.RMSNorm(d_model, eps=norm_eps)
            self.conv = nn.Parameter(torch.empty(d_model, 1, self._conv_width))

    def forward(self, x_BSD: Tensor, rows_BSK: Tensor, usage: Usage | None, cache: LayerCache | None = None) -> Tensor:
        """Return what the residual stream gets, [B, S, D].

        Args:
            x_BSD: The residual stream.
            rows_BSK: Rows to read (`addresses`).
            usage: Accumulates how often each row is read, if given.
            cache: In generation: holds what the convolution reads of earlier positions.
        """
        rows_TK = rows_BSK.flatten(0, 1)
        if usage is not None:
            usage.add_at(rows_TK, torch.ones(rows_TK.shape, device=rows_TK.device))
        memory_BSM = row_lookup(self.table, rows_TK).view(*rows_BSK.shape[:2], -1)
        key_BSD, value_BSD = self.key_value(memory_BSM).chunk(2, dim=-1)
        gate_BS1 = self._gate(self.hidden_norm(x_BSD), self.key_norm(promoted(key_BSD)))
        out_BSD: Tensor = torch.sigmoid(gate_BS1).to(value_BSD.dtype) * value_BSD
        if not self._conv_width:
            return out_BSD
        normed_BSD = self.conv_norm(promoted(out_BSD))
        mixed_BSD: Tensor = out_BSD + F.silu(self._convolved(normed_BSD, cache))
        return mixed_BSD

    def _gate(self, hidden_BSD: Tensor, key_BSD: Tensor) -> Tensor:
        product_BS1: Tensor = (hidden_BSD * key_BSD).sum(-1, keepdim=True) * hidden_BSD.shape[-1] ** -0.5
        if self._signed_root:
            product_BS1 = product_BS1.sign() * product_BS1.abs().clamp(min=_LEAST_ROOT).sqrt()
        return product_BS1

    def _convolved(self, normed_BSD: Tensor, cache: LayerCache | None) -> Tensor:
        """Return the convolution [B, S, D] of the positions given, with those held before them; beyond them zeros."""
        reach = (self._conv_width - 1) * self._spacing
        if cache is None:
            before_BRD = normed_BSD.new_zeros(len(normed_BSD), reach, normed_BSD.shape[2])
        else:
            before_BRD = cache.before("ngram", reach, normed_BSD)
        all_BPD = torch.cat([before_BRD, normed_BSD], dim=1)
        convolved = F.conv1d(all_BPD.transpose(1, 2), self.conv, dilation=self._spacing, groups=len(self.conv))
        return convolved.transpose(1, 2)
