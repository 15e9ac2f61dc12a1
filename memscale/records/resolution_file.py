"""What a sweep's plan said it could tell, kept when it is launched: `resolution.json` in the sweep's folder.

The report sets it beside what was reached, so it must not change afterwards: the statement of a plan is written once,
and when another plan of the sweep is launched (more seeds, say) the one before moves to `earlier`.
"""

from __future__ import annotations

from dataclasses import dataclass

from memscale.config.codec import to_plain
from memscale.errors import RecordError
from memscale.records.atomic import to_object
from memscale.records.layout import SweepPaths
from memscale.records.seal import read_sealed, write_sealed

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class StatedRow:
    """The smallest difference between two series that a plan would see in one measure."""

    measure: str
    """Column of the results table."""
    subject: str
    baseline: str
    at: str
    """`largest` (budget) or `mean` (over the budgets)."""
    smallest_difference: float
    """In `unit`, seen with 80 % power."""
    unit: str
    noise_std: float
    """Of one run, in `unit`."""
    source: str
    """`measured` or `assumed`."""
    rests_on: str
    num_seeds: int
    degrees: float


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a plan could tell, as it was stated when the plan was first launched."""

    plan_hash: str
    time: float
    """Unix seconds."""
    rows: tuple[StatedRow, ...]
    missing: tuple[str, ...] = ()
    """Of what nothing could be said, and why."""


@dataclass(frozen=True, kw_only=True)
class _Statements:
    current: Statement
    earlier: tuple[Statement, ...]


def keep_statement(paths: SweepPaths, statement: Statement) -> None:
    """Write the statement of a plan, unless it was written when that plan was launched before."""
    try:
        known = _read(paths)
    except RecordError:  # what an unreadable file said is lost
        known = None
    said = () if known is None else (known.current, *known.earlier)
    current = next((one for one in said if one.plan_hash == statement.plan_hash), statement)
    earlier = tuple(sorted((one for one in said if one != current), key=lambda one: one.time))
    if known is None or known.current != current:
        content = {**to_plain(current), "earlier": [to_plain(one) for one in earlier]}
        write_sealed(paths.resolution, content, format=FORMAT)


def read_statement(paths: SweepPaths) -> Statement | None:
    """Return the statement of the plan that was launched last; None where none was kept. Raises RecordError."""
    found = _read(paths)
    return found.current if found is not None else None


def check_statement(paths: SweepPaths) -> None:
    """Check that the file is whole, where there is one.

    Raises:
        RecordError: It is damaged; it is set aside as `damaged-resolution.json`.
    """
    try:
        _read(paths)
    except RecordError as error:
        aside = paths.resolution.with_name("damaged-resolution.json")
        paths.resolution.replace(aside)
        raise RecordError(f"{error}; it is now {aside.name}") from None


def _read(paths: SweepPaths) -> _Statements | None:
    if not paths.resolution.exists():
        return None
    plain, _ = read_sealed(paths.resolution, format=FORMAT)
    del plain["format"]
    earlier = plain.pop("earlier", [])
    return to_object(_Statements, paths.resolution, {"current": plain, "earlier": earlier})
