"""A plan on disk: the rows a person reads, and what its later stage took from its earlier one.

It is written when the sweep is launched and again when a stage opens. `status`, `results` and the rest read it, so
that they need neither the YAML nor the overrides it was launched with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from memscale.config.codec import to_plain
from memscale.errors import RecordError
from memscale.records.atomic import read_json, rename_keys, to_object, write_json
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.run_file import RENAMED_MISMATCHES
from memscale.records.seal import read_sealed, write_sealed

FORMAT = 3
"""1 called the mismatches of a run `flops_off` and `params_off`, and a choice's family name `family`; 1 and 2 had one
`data_folder`. Such files are read as if they were of this format."""


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One run of the plan. `run_id` and the rates are null until its stage opens."""

    name: str
    stage: str
    run_id: str | None
    series: str
    """Label of its curve: the family's name in the sweep, and what the grid varies."""
    family: str
    budget: str
    budget_flops: float
    seed: int
    tokens: int
    batch_tokens: int
    d_model: int
    num_layers: int
    num_slots: int | None
    """Rows of a table; null without one."""
    learning_rate: float | None
    table_learning_rate: float | None
    params_total: int
    params_active: int
    params_non_embedding: int
    params_table: int
    flops_per_token_forward: float
    flops_train: float
    flops_mismatch: float
    params_mismatch: float | None


@dataclass(frozen=True, kw_only=True)
class PointRow:
    """Rates of a tuning run."""

    learning_rate: float
    table_learning_rate: float | None


@dataclass(frozen=True, kw_only=True)
class SelectionRow:
    """The points of a family that an opened stage of tuning trains, chosen from the stages before; may be none."""

    stage: str
    family_name: str
    """The family's name in the sweep."""
    points: tuple[PointRow, ...]


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """Rates that were tried for a family, and the loss they led to."""

    learning_rate: float
    table_learning_rate: float | None
    stage: str = "tune"
    """`tune`, `tune-extended`, `tune-2`, ...: the round and the extension of the grid that it belongs to."""
    seed: int = 0
    """Not known of a plan of format 1 or 2, which had one seed for all: 0."""
    loss: float | None
    """Validation loss of the mixture in nats per token; null where the run failed or diverged."""


@dataclass(frozen=True, kw_only=True)
class ChoiceRow:
    """The rates chosen for a family, with those that were tried."""

    family_name: str
    """The family's name in the sweep."""
    learning_rate: float
    table_learning_rate: float | None
    at_edge: bool
    trials: tuple[TrialRow, ...]


@dataclass(frozen=True, kw_only=True)
class PlanFile:
    """A plan as it lies on disk."""

    sweep: str
    question: str
    plan_hash: str
    scale: str
    launcher: str
    caveats: tuple[str, ...] = ()
    data_folders: tuple[str, ...]
    """Names of the folders of the prepared data, beside the sweeps."""
    selections: tuple[SelectionRow, ...] = ()
    """Of each stage of tuning that is open, but for the first, and each family."""
    choices: tuple[ChoiceRow, ...]
    runs: tuple[PlanRow, ...]

    def run_paths(self, paths: SweepPaths, row: PlanRow) -> RunPaths | None:
        """The folder of a row's run, or None while it has no identity."""
        return paths.run(row.name, row.run_id) if row.run_id is not None else None


def write_plan_file(paths: SweepPaths, plan: PlanFile) -> None:
    """Write the plan under its hash, and make it the sweep's current one."""
    write_sealed(paths.plan(plan.plan_hash), to_plain(plan), format=FORMAT)
    write_json(paths.current_plan, {"plan_hash": plan.plan_hash}, format=FORMAT)


def read_plan_file(paths: SweepPaths, plan_hash: str | None = None) -> PlanFile | None:
    """The plan of that hash (None: the current one), or None where there is none. Raises RecordError where damaged."""
    if plan_hash is None:
        if not paths.current_plan.exists():
            return None
        plan_hash = _plan_hash(paths.current_plan)
    path = paths.plan(plan_hash)
    if not path.exists():
        return None
    plain, _ = read_sealed(path, format=FORMAT)
    written = plain.pop("format")
    if written in (1, 2) and isinstance(plain.get("data_folder"), str):
        plain["data_folders"] = [plain.pop("data_folder")]
    if written == 1:
        for key, names in (("runs", RENAMED_MISMATCHES), ("choices", {"family": "family_name"})):
            for row in plain[key] if isinstance(plain.get(key), list) else []:
                rename_keys(row, names)
    plan = to_object(PlanFile, path, plain)
    if plan.plan_hash != plan_hash:
        raise RecordError(f"{path} holds the plan {plan.plan_hash}; it was copied over")
    return plan


def mark_finished(paths: SweepPaths, plan_hash: str) -> None:
    """Note that nothing is left to do for this plan: runs, report and mirror are complete."""
    write_json(paths.finished, {"plan_hash": plan_hash}, format=FORMAT)


def is_finished(paths: SweepPaths, plan_hash: str) -> bool:
    """Whether `mark_finished` was called for this plan."""
    try:
        return paths.finished.exists() and _plan_hash(paths.finished) == plan_hash
    except RecordError:  # only a note: what it said is found out again
        return False


def _plan_hash(path: Path) -> str:
    content = read_json(path, format=FORMAT)
    if not isinstance(content.get("plan_hash"), str) or not re.fullmatch("[0-9a-f]{12}", content["plan_hash"]):
        raise RecordError(f"{path} names no plan; it was damaged outside memscale")
    return str(content["plan_hash"])
