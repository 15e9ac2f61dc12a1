"""The model of a run: built from its architecture and seed, its tables in the type and place they are to have."""

from __future__ import annotations

import torch

from memscale.config.optimizer import Optimizer
from memscale.config.run import Run
from memscale.kernels.table_placement import ON_DEVICE, TablePlacement
from memscale.models.transformer import Transformer, build


def build_model(
    run: Run, *, device: str | torch.device = "cpu", table_placement: TablePlacement = ON_DEVICE
) -> Transformer:
    """Return the model as it is before its first step. Raises ConfigError where there is no room for its tables."""
    return build(
        run.architecture,
        seed=run.seed,
        device=device,
        table_dtype=_table_dtype(run.optimizer),
        table_placement=table_placement,
    )


def _table_dtype(optimizer: Optimizer) -> torch.dtype:
    return torch.float32 if optimizer.table_storage == "float32" else torch.bfloat16
