"""Tables with a row for each token of the vocabulary (`memscale.config.token_layers.TokenTable`).

- `GatedTokenTable`, beside the feed-forward layer: W_out(gelu(W_gate x) * row), x normalised (Gemma 3n's per-layer
  embeddings).
- `TokenFeedForward`, in its place: W_down(silu(W_gate x) * row) (STEM, arXiv 2601.10639): the row is what the up
  projection gives a dense layer.
- `ValueTable`: the row is added to the values of attention (modded-nanogpt, 2024).

Shape suffixes: B batch, S positions, D model width, F width of a row, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memscale.kernels.memory_table import MemoryTable
from memscale.kernels.row_lookup import row_lookup
from memscale.models.usage import Usage


class _TokenRows(nn.Module):
    """A table [V, F], and its rows for tokens."""

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.table = MemoryTable(torch.empty(vocab_size, width))

    def rows(self, tokens_BS: Tensor) -> Tensor:
        """Return the rows of the tokens, [B, S, F]."""
        return row_lookup(self.table, tokens_BS.reshape(-1, 1)).view(*tokens_BS.shape, -1)


class GatedTokenTable(_TokenRows):
    """A norm, W_gate [F, D] (`gate`), W_out [D, F] (`out`), and the table."""

    def __init__(self, d_model: int, vocab_size: int, width: int, norm_eps: float) -> None:
        super().__init__(vocab_size, width)
        self.norm = nn.RMSNorm(d_model, eps=norm_eps)
        self.gate = nn.Linear(d_model, width, bias=False)
        self.out = nn.Linear(width, d_model, bias=False)

    def forward(self, x_BSD: Tensor, tokens_BS: Tensor) -> Tensor:
        """Return what the residual stream `x_BSD` gets, [B, S, D]."""
        gate_BSF = F.gelu(self.gate(self.norm(x_BSD)))
        out_BSD: Tensor = self.out(gate_BSF * self.rows(tokens_BS).to(gate_BSF.dtype))
        return out_BSD


class TokenFeedForward(_TokenRows):
    """W_gate [F, D] (`token_gate`), W_down [D, F] (`token_down`), and the table."""

    def __init__(self, d_model: int, vocab_size: int, hidden: int) -> None:
        super().__init__(vocab_size, hidden)
        self.token_gate = nn.Linear(d_model, hidden, bias=False)
        self.token_down = nn.Linear(hidden, d_model, bias=False)

    def forward(
        self, x_BSD: Tensor, _table_NV: Tensor | None, tokens_BS: Tensor, _usage: Usage | None = None
    ) -> tuple[Tensor, None]:
        """Return [B, S, D]; a shared table is an argument of every feed-forward sublayer, and unused here."""
        gate_BSF = F.silu(self.token_gate(x_BSD))
        return self.token_down(gate_BSF * self.rows(tokens_BS).to(gate_BSF.dtype)), None


class ValueTable(_TokenRows):
    """The table; its rows are as wide as all values of attention."""

    def forward(self, tokens_BS: Tensor) -> Tensor:
        """Return what the values get, [B, S, F]."""
        return self.rows(tokens_BS)
