"""`run.json`: the resolved configuration of a run, what was planned of it, and where it belongs.

It carries a digest of its content, so that an edit is noticed when it is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from memscale.config.checks import ADDED_LATER
from memscale.config.codec import to_plain
from memscale.config.data import Data
from memscale.config.names import RUN_NAME, check_id, check_name, check_sweep_name
from memscale.config.run import Run
from memscale.records.atomic import rename_keys, to_object
from memscale.records.seal import read_sealed, write_sealed

FORMAT = 3
"""1 called the mismatches of `counts` `flops_off` and `params_off`; such a file is read as if it had the new names.
1 and 2 have no `dense_params_non_embedding`, which is then null."""

RENAMED_MISMATCHES = {"flops_off": "flops_mismatch", "params_off": "params_mismatch"}
"""Names of format 1, and what they are called now."""


@dataclass(frozen=True, kw_only=True)
class PlannedCounts:
    """What the planner counted; the built model must agree."""

    params_total: int
    params_active: int
    params_non_embedding: int
    params_table: int
    rows_read_per_token: int
    flops_per_token_forward: float
    flops_train: float
    flops_mismatch: float
    params_mismatch: float | None
    params_recurrent: int | None = field(default=None, metadata=ADDED_LATER)
    """Of a looped model: the parameters that every recurrence uses (`memscale.planning.loops.recurrent_params`)."""


@dataclass(frozen=True, kw_only=True)
class OtherConventions:
    """Training FLOPs per token as others count them (`memscale.planning.accounting.Conventions`)."""

    six_n_total: float
    six_n_active: float
    six_n_non_embedding: float
    palm: float
    ludziejewski: float


@dataclass(frozen=True, kw_only=True)
class RunFile:
    """A run as it lies on disk: its configuration, what was planned of it, and its place in the sweep."""

    sweep: str
    question: str
    scale: str
    stage: str
    name: str
    run_id: str
    series: str
    """Label of its curve: the family's name in the sweep, and what the grid varies."""
    family: str
    budget: str
    budget_flops: float
    run: Run
    counts: PlannedCounts
    conventions: OtherConventions
    dense_params_non_embedding: int | None = None
    """Non-embedding parameters of the budget's dense model, to which bits of facts are related."""
    data: Data
    """What the run is trained on, with its sources sized for the budget."""
    tasks: tuple[str, ...] | None
    """Evaluated after training: None: all that the data offers; empty: none."""

    def __post_init__(self) -> None:
        check_sweep_name(self.sweep)
        check_name("name", self.name, RUN_NAME)
        check_id("run_id", self.run_id)


def write_run_file(path: Path, content: RunFile) -> None:
    """Write a run's file, whole or not at all."""
    write_sealed(path, to_plain(content), format=FORMAT)


def read_run_file(path: Path) -> RunFile:
    """Raises RecordError where the file is missing, unreadable, edited, damaged or newer."""
    plain, _ = read_sealed(path, format=FORMAT)
    if plain.pop("format") == 1:
        rename_keys(plain.get("counts"), RENAMED_MISMATCHES)
    return to_object(RunFile, path, plain)
