"""Training metrics averaged between two lines of the log, and losses on held-out text.

The standard error of a held-out loss is over windows of text, which are drawn independently; tokens are not. Values
that are not finite are passed on: the caller decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch

from memscale.data.prepared import Prepared
from memscale.models.transformer import Transformer
from memscale.training.micro_batch import BatchLoss, token_nats
from memscale.training.precision import autocast


@dataclass(frozen=True, kw_only=True)
class WindowSums:
    """Sums over the steps since the last training line."""

    loss: float = 0.0
    auxiliary_loss: float = 0.0
    gradient_norm: float = 0.0
    num_steps: int = 0

    @property
    def finite(self) -> bool:
        """False if any term was not finite: infinity and NaN survive every later addition."""
        return math.isfinite(self.loss + self.auxiliary_loss + self.gradient_norm)

    def means(self) -> dict[str, float]:
        """Means per step, under their names in the metrics."""
        sums = asdict(self)
        return {name: sums[name] / self.num_steps for name in ("loss", "auxiliary_loss", "gradient_norm")}


class MetricsWindow:
    """Accumulates metrics of steps on their device, so that a GPU is waited for only when they are read."""

    def __init__(self, device: torch.device, start: WindowSums) -> None:
        self._sums_3 = torch.tensor(
            [start.loss, start.auxiliary_loss, start.gradient_norm], dtype=torch.float64, device=device
        )
        self._num_steps = start.num_steps

    def add(self, loss: BatchLoss, gradient_norm: torch.Tensor) -> None:
        """Add one step's losses and gradient norm, scalars on the window's device."""
        self._sums_3 += torch.stack((loss.nats_per_token, loss.auxiliary, gradient_norm))
        self._num_steps += 1

    def read(self) -> WindowSums:
        """Return the sums so far; waits for a GPU."""
        loss, auxiliary, norm = self._sums_3.tolist()
        return WindowSums(loss=loss, auxiliary_loss=auxiliary, gradient_norm=norm, num_steps=self._num_steps)

    def clear(self) -> None:
        """Reset to zero steps."""
        self._sums_3.zero_()
        self._num_steps = 0


@dataclass(frozen=True, kw_only=True)
class SourceLoss:
    """The loss on one source's held-out text."""

    nats_per_token: float
    nats_stderr: float | None
    """Standard error over windows of `sequence_length` tokens; None with a single window."""
    bits_per_byte: float


@dataclass(frozen=True, kw_only=True)
class Validation:
    """One evaluation on the held-out text of every source."""

    sources: Mapping[str, SourceLoss]
    mixture_nats: float
    """Nats per token, averaged over the sources by their weight in the training mixture."""
    usage: Mapping[str, float]
    """How evenly tables or experts are used (`Transformer.statistics`); empty for a dense model."""

    @property
    def finite(self) -> bool:
        """Whether the mixture's loss is finite."""
        return math.isfinite(self.mixture_nats)

    def figures(self) -> dict[str, float]:
        """Losses under their names in the metrics."""
        named = {"nats_mixture": self.mixture_nats}
        for source, loss in self.sources.items():
            named[f"nats_{source}"] = loss.nats_per_token
            named[f"bits_per_byte_{source}"] = loss.bits_per_byte
        return named


class Validator:
    """Holds the held-out windows of every source, and evaluates models on them."""

    def __init__(self, prepared: Prepared, sequence_length: int, device: torch.device) -> None:
        max_tokens = prepared.manifest.validation_tokens
        self._weights = {source.name: source.weight for source in prepared.manifest.sources}
        self._sources = {}
        for name in self._weights:
            windows = prepared.validation(name, sequence_length=sequence_length, max_tokens=max_tokens)
            self._sources[name] = (torch.from_numpy(windows.tokens).to(device), windows.num_bytes)

    def measure(self, model: Transformer, batch_sequences: int) -> Validation:
        """Evaluate `model` on every source's windows, `batch_sequences` at a time; leaves it in training mode."""
        model.eval()
        model.start_statistics()
        losses = {
            name: _source_loss(window_nats(model, tokens_NT, batch_sequences), num_bytes)
            for name, (tokens_NT, num_bytes) in self._sources.items()
        }
        usage = model.statistics()
        model.train()
        weighted = sum(self._weights[name] * loss.nats_per_token for name, loss in losses.items())
        mixture = weighted / sum(self._weights.values())
        return Validation(sources=losses, mixture_nats=mixture, usage=usage)


@torch.inference_mode()
def window_nats(model: Transformer, tokens_NT: torch.Tensor, batch_sequences: int) -> torch.Tensor:
    """Return the loss of every predicted token, in nats.

    Args:
        model: In evaluation mode.
        tokens_NT: Windows of tokens, int64 [N, S + 1].
        batch_sequences: Windows per forward pass.

    Returns:
        float64 [N, S].
    """
    parts = []
    for first in range(0, tokens_NT.shape[0], batch_sequences):
        part_BT = tokens_NT[first : first + batch_sequences]
        with autocast(part_BT.device):
            logits_BSV = model(part_BT[:, :-1]).logits_BSV
        parts.append(token_nats(logits_BSV, part_BT[:, 1:], reduction="none").double())
    return torch.cat(parts)


def _source_loss(nats_NS: torch.Tensor, num_bytes: float) -> SourceLoss:
    num_windows = nats_NS.shape[0]
    mean_N = nats_NS.mean(dim=1)
    return SourceLoss(
        nats_per_token=mean_N.mean().item(),
        nats_stderr=mean_N.std().item() / math.sqrt(num_windows) if num_windows > 1 else None,
        bits_per_byte=nats_NS.sum().item() / math.log(2) / num_bytes,
    )
