"""The dense feed-forward slot: SwiGLU (Shazeer 2020), (silu(x A) * x B) C without biases.

T tokens, D model width, F hidden width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class FeedForward(nn.Module):
    """A and B are one matrix: its first F rows are the gate A, the others B."""

    def __init__(self, d_model: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(d_model, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, d_model, bias=False)

    def forward(self, x_TD: Tensor) -> Tensor:
        gate_TF, up_TF = self.gate_up(x_TD).chunk(2, dim=-1)
        out_TD: Tensor = self.down(F.silu(gate_TF) * up_TF)
        return out_TD
