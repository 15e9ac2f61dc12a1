"""A run: one model to train. Everything here changes the result, so everything here is its identity.

Hardware, paths, GPU counts, micro-batches and logging have no place in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from memscale.config.architecture import Architecture
from memscale.config.checks import at_least, require
from memscale.config.optimizer import Optimizer, Schedule

MEANING = 2
"""Raised by hand when a change of code changes results; older results are then not taken for new ones."""


@dataclass(frozen=True, kw_only=True)
class Digests:
    """SHA-256 of what was put in: the contents and settings of the data, the tokenizer and the evaluation sets."""

    data: str
    tokenizer: str
    evaluation: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """A frozen configuration with an identity (`memscale.planning.identity`)."""

    architecture: Architecture
    optimizer: Optimizer
    schedule: Schedule
    tokens: int
    """Tokens trained on; a whole number of batches."""
    batch_tokens: int
    sequence_length: int
    seed: int
    """Seeds the initial weights and the order of the data."""
    validations: int
    """Validations during training, evenly spaced, the last one at the end."""
    digests: Digests
    meaning: int = MEANING

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        at_least("tokens", self.tokens, 1)
        require(
            self.tokens % self.batch_tokens == 0,
            f"tokens ({self.tokens}) is not a multiple of batch_tokens ({self.batch_tokens})",
        )
        require(
            self.batch_tokens % self.sequence_length == 0,
            f"batch_tokens ({self.batch_tokens}) is not a multiple of sequence_length ({self.sequence_length})",
        )
        has_table = self.architecture.has_table
        require(
            has_table == (self.optimizer.table_learning_rate is not None),
            "table_learning_rate must be given for a model with a table, and only for one",
        )

    @property
    def num_steps(self) -> int:
        return self.tokens // self.batch_tokens

    @property
    def batch_sequences(self) -> int:
        return self.batch_tokens // self.sequence_length
