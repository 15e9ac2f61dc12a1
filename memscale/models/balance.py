"""The balance loss of experts, split into what one forward pass knows and what only the whole batch does.

The loss of Switch is E * sum_e f_e P_e (Fedus et al. 2022, equation 4), with the shares f_e of the load and the mean
scores P_e. The shares have no gradient. Over a batch in parts, P_e is the mean of the parts' means weighted by their
tokens; so, once the load of the whole batch is known, each part has a loss of its own, and the gradients of the parts
add up to the batch's exactly.

Shape suffixes: E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class BalanceTerm:
    """What one forward pass of one layer brings to the balance loss.

    Example:
        >>> import torch
        >>> term = BalanceTerm(load_E=torch.tensor([6, 2]), mean_E=torch.tensor([0.5, 0.5]), weight=1.0)
        >>> round(term.loss(torch.tensor([10, 6])).item(), 4)  # at even scores any load gives one
        1.0
    """

    load_E: Tensor  # noqa: N815
    """Rows of each expert in this pass, integers."""
    mean_E: Tensor  # noqa: N815
    """Mean over the tokens of this pass of the scores, which sum to one; carries the router's gradient."""
    weight: float

    def loss(self, load_E: Tensor) -> Tensor:
        """Return this pass's weighted loss, a scalar, at the load [E] of the whole batch."""
        shares_E = load_E.to(self.mean_E.dtype) / load_E.sum()
        return self.weight * len(load_E) * (shares_E * self.mean_E).sum()
