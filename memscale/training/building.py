"""The model of a run: built from its architecture and seed, with its tables' type and placement."""

from __future__ import annotations

import torch

from memscale.config.optimizer import Optimizer
from memscale.config.run import Run
from memscale.kernels.table_placement import ON_DEVICE, TablePlacement
from memscale.models.transformer import Transformer, build


def build_model(
    run: Run, *, device: str | torch.device = "cpu", table_placement: TablePlacement = ON_DEVICE
) -> Transformer:
    """Return the model of a run before its first step.

    Args:
        run: Gives architecture, seed and the type that tables are stored in.
        device: Where the model is built.
        table_placement: Where its tables are allocated.

    Raises:
        ConfigError: There is no space for its tables.
    """
    return build(
        run.architecture,
        seed=run.seed,
        device=device,
        table_dtype=_table_dtype(run.optimizer),
        table_placement=table_placement,
        init=run.init,
    )


def _table_dtype(optimizer: Optimizer) -> torch.dtype:
    return torch.float32 if optimizer.table_storage == "float32" else torch.bfloat16
