"""With which seeds a sweep's report was built: `looks.json`, which the report's intervals depend on.

A sweep that is extended by seeds is read again each time, and every reading has its chance of an error; the analysis
widens the intervals by how often and with how many seeds it was read (`analysis.inference.sequential`). A look is
recorded when the report is built with seeds that no look before it had. Looks belong to a design (the compared series
and budgets): another scale or other families are another experiment, whose looks are kept apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memscale.config.codec import to_plain
from memscale.errors import RecordError
from memscale.records.atomic import to_object
from memscale.records.layout import SweepPaths
from memscale.records.plan_file import PlanRow
from memscale.records.seal import read_sealed, write_sealed

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Look:
    """One reading of the report."""

    seeds: tuple[int, ...]
    """All seeds that the report rested on, sorted."""
    plan_hash: str
    time: float
    """Unix seconds."""


@dataclass(frozen=True, kw_only=True)
class _Design:
    design: str
    looks: tuple[Look, ...]


@dataclass(frozen=True, kw_only=True)
class _Looks(_Design):
    other_designs: tuple[_Design, ...] = ()


def design_hash(compared: Iterable[PlanRow]) -> str:
    """Return 12 hex digits for the compared series and budgets of a plan, whatever its seeds and their order."""
    cells = {(row.series, row.budget, row.tokens, row.batch_tokens, row.params_total) for row in compared}
    return hashlib.sha256(json.dumps(sorted(cells)).encode()).hexdigest()[:12]


def record_look(paths: SweepPaths, design: str, look: Look) -> None:
    """Record a look if it has a seed that no earlier look of this design had.

    Args:
        paths: The sweep's folder.
        design: `design_hash` of its compared runs.
        look: The seeds whose runs have all ended.

    Raises:
        RecordError: The file is damaged; it is set aside as `damaged-looks.json`, and the next look begins anew.
    """
    try:
        known = _read(paths)
    except RecordError as error:
        aside = paths.looks.with_name("damaged-looks.json")
        paths.looks.replace(aside)
        raise RecordError(f"{error}; it is now {aside.name}, and earlier looks are not counted") from None
    designs = {one.design: one.looks for one in (known, *known.other_designs)} if known is not None else {}
    looks = designs.pop(design, ())
    seen = {seed for one in looks for seed in one.seeds}
    if look.seeds and not set(look.seeds) <= seen:
        looks = (*looks, look)
    if (known is None and not looks) or (known is not None and (known.design, known.looks) == (design, looks)):
        return
    others = tuple(_Design(design=name, looks=of) for name, of in designs.items())
    write_sealed(paths.looks, to_plain(_Looks(design=design, looks=looks, other_designs=others)), format=FORMAT)


def read_looks(paths: SweepPaths, design: str) -> Sequence[Look]:
    """Return the looks at a design, the first one first. Raises RecordError where the file is damaged."""
    known = _read(paths)
    if known is None:
        return ()
    return next((one.looks for one in (known, *known.other_designs) if one.design == design), ())


def _read(paths: SweepPaths) -> _Looks | None:
    if not paths.looks.exists():
        return None
    plain, _ = read_sealed(paths.looks, format=FORMAT)
    del plain["format"]
    return to_object(_Looks, paths.looks, plain)
