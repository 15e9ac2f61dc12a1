"""The inputs of the rules for learning rates and batches, with their symbols and units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memscale.config.checks import positive


@dataclass(frozen=True, kw_only=True)
class RuleInputs:
    """The inputs of the rules for one run. Raises ConfigError where a value is not a positive number."""

    flops: float
    """C: FLOPs of the whole training (3 x forward x tokens)."""
    params_non_embedding: float
    """N: non-embedding parameters; of a sparse model those that one token uses."""
    tokens: float
    """D: training tokens."""
    batch_tokens: float | None = None
    """B: tokens per optimizer step; None for a batch rule, which gives it."""
    sequence_length: int
    """s: tokens per sequence."""
    d_model: int
    """d: width of the residual stream."""
    num_experts: int = 1
    """E: experts of an MoE layer; 1 for every model without."""

    def __post_init__(self) -> None:
        for name in ("flops", "params_non_embedding", "tokens", "sequence_length", "d_model", "num_experts"):
            positive(name, getattr(self, name))
        if self.batch_tokens is not None:
            positive("batch_tokens", self.batch_tokens)


SYMBOLS: Mapping[str, tuple[str, str]] = {
    "flops": ("C", "FLOPs"),
    "params_non_embedding": ("N", "non-embedding parameters"),
    "tokens": ("D", "tokens"),
    "batch_tokens": ("B", "tokens"),
    "sequence_length": ("s", "tokens"),
    "d_model": ("d", "units of width"),
    "num_experts": ("E", "experts"),
}
"""Symbol and unit of each input."""
