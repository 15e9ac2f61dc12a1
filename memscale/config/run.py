"""A run: one model to train. Every field changes the result and is therefore part of the run's identity.

Hardware, paths, GPU counts, micro-batches and logging are not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from memscale.config.architecture import Architecture
from memscale.config.checks import ADDED_LATER, added_later, require
from memscale.config.names import FolderName
from memscale.config.optimizer import Average, Init, Optimizer, Schedule
from memscale.config.ranges import BatchTokens, Checked, Count, Seed, WholeTokens

MEANING = 2
"""Raised by hand when a code change alters results, so that older results get another identity."""


@dataclass(frozen=True, kw_only=True)
class Digests:
    """SHA-256 digests of the inputs: the contents and settings of data, tokenizer and evaluation sets."""

    data: str
    tokenizer: str
    evaluation: str


@dataclass(frozen=True, kw_only=True)
class BudgetDigests:
    """The digests of the data of one budget, where budgets have data of their own."""

    budget: FolderName
    digests: Digests


@dataclass(frozen=True, kw_only=True)
class Run(Checked):
    """A frozen configuration; `memscale.planning.identity.run_id` is its identity."""

    architecture: Architecture
    optimizer: Optimizer
    schedule: Schedule
    tokens: WholeTokens
    """Training tokens; a whole number of batches."""
    batch_tokens: BatchTokens
    sequence_length: BatchTokens
    seed: Seed
    """Seed of the initial weights and of the order of the data."""
    validations: Count
    """Number of validations, evenly spaced, the last one at the end of training."""
    digests: Digests
    meaning: Count = MEANING
    average: Average | None = field(default=None, metadata=ADDED_LATER)
    """Which weights are averaged at the end; None: the last ones are the result."""
    table_schedule: Schedule | None = field(default=None, metadata=ADDED_LATER)
    """Of the tables' learning rate; None: `schedule`."""
    init: Init = field(default="scaled", metadata=added_later("scaled"))
    """The rule of the initial weights (`memscale.models.initialise`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
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
        require(
            has_table or (self.table_schedule is None and self.optimizer.clipping == "together"),
            "table_schedule and clipping 'apart' are about tables, and the model has none; leave them out",
        )

    @property
    def num_steps(self) -> int:
        """Optimizer steps."""
        return self.tokens // self.batch_tokens

    @property
    def batch_sequences(self) -> int:
        """Sequences per optimizer step."""
        return self.batch_tokens // self.sequence_length
