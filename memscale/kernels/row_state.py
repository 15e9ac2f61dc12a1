"""AdamW's state of every row of a table, and the constants of one step: what the row back ends work on.

Shape suffixes: N slots, V width of a row.
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
    """The rows that the optimizer updates: the table itself, or its float32 master copy."""
    first_NV: Tensor  # noqa: N815
    second_NV: Tensor  # noqa: N815
    """[N, V]; or [N, 1], the mean square of the row's gradient, with one second moment per row."""
    moments_step_N: Tensor  # noqa: N815
    """int32: the last step in which the row got a gradient, 0 for none; its moments are those of that step."""
    weights_step_N: Tensor  # noqa: N815
    """int32: the step that the row's weights are of; later updates are pending. At least `moments_step_N`."""

    @property
    def by_row(self) -> bool:
        """Whether there is one second moment per row instead of one per element."""
        return self.second_NV.shape[1] < self.first_NV.shape[1]


@dataclass(frozen=True, kw_only=True)
class AdamWStep:
    """The constants of one AdamW step, the `step`-th, counted from 1."""

    step: int
    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float

    @property
    def step_size(self) -> float:
        """Return lr / (1 - beta1^step): the learning rate over the first moment's bias correction."""
        return self.learning_rate / (1.0 - self.beta1**self.step)

    @property
    def root_correction(self) -> float:
        """Return 1 / sqrt(1 - beta2^step): what sqrt(second moment) is multiplied by."""
        return float((1.0 - self.beta2**self.step) ** -0.5)


def zero_state(weights_NV: Tensor, second_moments: str, placement: TablePlacement) -> RowState:
    """Return the state before the first step, allocated by `placement`.

    Args:
        weights_NV: The rows that the optimizer moves.
        second_moments: "element" for one per element, "row" for one per row.
        placement: Where moments and step numbers are allocated.

    Returns:
        Moments of zero, in float32 or the weights' type if that is wider; step numbers of zero.
    """
    num_slots, width = weights_NV.shape
    dtype = torch.promote_types(weights_NV.dtype, torch.float32)
    columns = width if second_moments == "element" else 1
    device = weights_NV.device
    return RowState(
        weights_NV,
        placement.zeros((num_slots, width), dtype, device),
        placement.zeros((num_slots, columns), dtype, device),
        placement.zeros((num_slots,), torch.int32, device),
        placement.zeros((num_slots,), torch.int32, device),
    )
