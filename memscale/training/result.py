"""What training leaves: how it ended, the model, its losses and its cost."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch

from memscale.models.transformer import Transformer
from memscale.training.metrics import Validation


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How training ended, and its result."""

    status: str
    """'done', 'diverged' (a loss or gradient was not finite) or 'stopped' (asked to; a checkpoint is there)."""
    model: Transformer
    device: torch.device
    step: int
    tokens: int
    validation: Validation | None
    """The final losses and usage statistics; None unless done."""
    train_seconds: float
    """Spent in training steps over all attempts, validations and checkpoints not included."""
    tokens_per_second: float
    """Over `train_seconds`."""
    micro_batch_sequences: int
    peak_memory_bytes: int

    @property
    def losses(self) -> dict[str, dict[str, float | None]]:
        """The final losses as in result.json: by source, and 'mixture'; unless done, the mixture alone, NaN."""
        if self.validation is None:
            return {"mixture": {"nats_per_token": math.nan}}
        sources = {name: asdict(loss) for name, loss in self.validation.sources.items()}
        return {**sources, "mixture": {"nats_per_token": self.validation.mixture_nats}}

    @property
    def usage(self) -> dict[str, float]:
        """How evenly tables or experts are used on held-out text; empty for a dense model, and unless done."""
        return dict(self.validation.usage) if self.validation is not None else {}
