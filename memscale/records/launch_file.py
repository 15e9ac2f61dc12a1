"""`slurm/launch.json`: what a sweep was launched with, so that a job can go on with it when nobody is logged in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memscale.config.codec import from_plain, to_plain
from memscale.config.run import BudgetDigests, Digests
from memscale.config.sweep import Sweep
from memscale.errors import RecordError
from memscale.records.atomic import read_json, write_json
from memscale.records.layout import SweepPaths

FORMAT = 3
"""1 called `launcher.workers` `slots`; 1 and 2 named a `data_folder`, which follows from the digests. Such files are
read as if they were of this format."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a sweep was launched with."""

    launched: float
    """Unix seconds. Attempts before it do not count against a run."""
    sweep: Sweep
    digests: Digests
    """Of the data of every budget; of the first one's, where budgets have data of their own."""
    budget_digests: tuple[BudgetDigests, ...] = ()
    """Of each budget's data, where budgets have data of their own."""
    code: str
    """The snapshot that its jobs run."""
    python: str
    """The interpreter that they run it with."""

    @classmethod
    def of_plan(
        cls, sweep: Sweep, digests: Digests | Mapping[str, Digests], *, launched: float, code: str, python: str
    ) -> Launch:
        """Return the launch of a sweep with its plan's digests: one for all budgets, or by the budget's name."""
        if isinstance(digests, Digests):
            return cls(launched=launched, sweep=sweep, digests=digests, code=code, python=python)
        return cls(
            launched=launched,
            sweep=sweep,
            digests=next(iter(digests.values())),
            budget_digests=tuple(BudgetDigests(budget=name, digests=one) for name, one in digests.items()),
            code=code,
            python=python,
        )

    @property
    def plan_digests(self) -> Digests | dict[str, Digests]:
        """The digests as a plan takes them: one for all budgets, or by the budget's name."""
        if not self.budget_digests:
            return self.digests
        return {one.budget: one.digests for one in self.budget_digests}


def write_launch(paths: SweepPaths, launch: Launch) -> None:
    """Write what the sweep is launched with, in place of an earlier launch."""
    write_json(paths.launch, to_plain(launch), format=FORMAT)


def read_launch(paths: SweepPaths) -> Launch | None:
    """Return what the sweep was last launched with on SLURM; None where it never was.

    Files of former formats are read too.

    Raises:
        RecordError: The file is damaged or of a newer format.

    """
    if not paths.launch.exists():
        return None
    plain = read_json(paths.launch, format=FORMAT)
    written = plain.pop("format")
    if written == 1:
        _rename_workers(plain)
    if written in (1, 2):
        plain.pop("data_folder", None)
    try:
        return from_plain(Launch, plain, describe=lambda key: f"{key} ({paths.launch})")
    except ValueError as error:
        raise RecordError(f"{paths.launch} cannot be read back: {error}") from None


def _rename_workers(plain: dict[str, Any]) -> None:
    """Give a launch of format 1 the key that format 2 has. A damaged file stays as it is, and is refused later."""
    sweep = plain.get("sweep")
    launcher = sweep.get("launcher") if isinstance(sweep, dict) else None
    if isinstance(launcher, dict) and "slots" in launcher:
        launcher["workers"] = launcher.pop("slots")
