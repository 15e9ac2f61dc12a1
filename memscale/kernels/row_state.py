"""What AdamW keeps of every row of a table, and the numbers of one step: what the row back ends work on.

N slots, V width of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memscale.kernels.table_placement import TablePlacement

SECOND_MOMENTS = ("element", "row")


@dataclass(frozen=True)
class RowState:
    """A table's rows and AdamW's state of each, all on one device."""

    weights_NV: Tensor  # noqa: N815
    """The rows that the optimizer moves: the table itself, or its float32 master copy."""
    first_NV: Tensor  # noqa: N815
    second_NV: Tensor  # noqa: N815
    """[N, V]; or [N, 1], of the mean square of the row's gradient, where second moments are kept by row."""
    moments_step_N: Tensor  # noqa: N815
    """int32: the last step in which the row got a gradient, 0 for none; its moments are of that step."""
    weights_step_N: Tensor  # noqa: N815
    """int32: the step up to which its weights are up to date, never before that of its moments."""

    @property
    def by_row(self) -> bool:
        """Whether there is one second moment a row, not one an element."""
        return self.second_NV.shape[1] < self.first_NV.shape[1]


@dataclass(frozen=True, kw_only=True)
class AdamWStep:
    """One step of AdamW: the `step`-th, from 1."""

    step: int
    rate: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float

    @property
    def step_size(self) -> float:
        """The rate over the first moment's bias correction."""
        return self.rate / (1.0 - self.beta1**self.step)

    @property
    def root_correction(self) -> float:
        """What the root of the second moment is multiplied by: one over the root of its bias correction."""
        return float((1.0 - self.beta2**self.step) ** -0.5)


def zero_state(weights_NV: Tensor, second_moments: str, memory: TablePlacement) -> RowState:
    """Return the state before the first step, laid where `memory` says. Moments are float32 at least."""
    num_slots, width = weights_NV.shape
    kind = torch.promote_types(weights_NV.dtype, torch.float32)
    columns = width if second_moments == "element" else 1
    device = weights_NV.device
    return RowState(
        weights_NV,
        memory.zeros((num_slots, width), kind, device),
        memory.zeros((num_slots, columns), kind, device),
        memory.zeros((num_slots,), torch.int32, device),
        memory.zeros((num_slots,), torch.int32, device),
    )
