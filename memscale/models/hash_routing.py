"""Hash routing: which experts a token id has, drawn once and not trained (Roller et al. 2021, "Hash layers").

Every id of the vocabulary gets K different experts out of E, each set of K as likely as any other, in each layer anew.
How many ids an expert has is left to chance: that differs far less than the ids' frequencies do. The draw depends on
the run's seed and the layer, as initial weights do, so that runs of several seeds also show what luck there is in it.

Shape suffixes: V token ids, K experts per token.
"""

from __future__ import annotations

import torch
from torch import Tensor


def draw_experts(vocab_size: int, num_experts: int, per_token: int, generator: torch.Generator) -> Tensor:
    """Return the experts of every token id, int32 [V, K], different ones in a row.

    The j-th expert of an id is drawn among the num_experts - j that the id does not have yet.

    Example:
        >>> experts_VK = draw_experts(5, 4, 2, torch.Generator().manual_seed(0))
        >>> experts_VK.shape, bool((experts_VK[:, 0] != experts_VK[:, 1]).all())
        (torch.Size([5, 2]), True)
    """
    chosen_KV = torch.empty(0, vocab_size, dtype=torch.int64)
    for taken in range(per_token):
        expert_V = torch.randint(num_experts - taken, (vocab_size,), generator=generator)
        # The number of an expert among those that are left, counted up over the taken ones below it, lowest first.
        for below_V in chosen_KV.sort(dim=0).values.unbind():
            expert_V += below_V <= expert_V
        chosen_KV = torch.cat((chosen_KV, expert_V[None]))
    return chosen_KV.t().to(torch.int32).contiguous()
