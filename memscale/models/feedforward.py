"""The dense feed-forward layer: SwiGLU (Shazeer 2020), (silu(x A) * x B) C without biases.

Shape suffixes: B batch, S positions, D model width, F hidden width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from memscale.models.usage import Usage


class FeedForward(nn.Module):
    """A SwiGLU layer; A and B are one matrix, whose first F rows are the gate A."""

    def __init__(self, d_model: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(d_model, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, d_model, bias=False)

    def forward(
        self,
        x_BSD: Tensor,
        _table_NV: Tensor | None = None,
        _tokens_BS: Tensor | None = None,
        _usage: Usage | None = None,
    ) -> tuple[Tensor, None]:
        """Return [B, S, D]; table, tokens and usage are arguments of every feed-forward sublayer, and unused here."""
        gate_BSF, up_BSF = self.gate_up(x_BSD).chunk(2, dim=-1)
        return self.down(F.silu(gate_BSF) * up_BSF), None
