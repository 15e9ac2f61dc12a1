"""How often 95 % intervals hold the truth, over simulated tables of which the truth is known.

`python -m benchmarks.coverage [--only NAME] [--tables 400] [--json FILE]`. Every engine has its cases in a file of its
own, `benchmarks/coverage_<room>.py`, whose `cases()` gives them; a case makes one table from a random generator, asks
the engine as a person would (with its defaults), and says of each interval whether it holds the truth. An interval that
the engine refuses, or marks as not identified, counts apart: it is no failure and no success.

The JSON has, for each case and quantity, the share that held the truth, its standard error, and the share refused.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import pkgutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import benchmarks

RESULTS = Path(__file__).parent / "results" / "coverage.json"
TABLES = 400
PREFIX = "coverage_"

Held = Mapping[str, bool | None]
"""Of each quantity: whether its interval holds the truth; None where no interval was given."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of table, and one question put to an engine about it."""

    name: str
    """Such as 'fit: chinchilla, 15 runs'; what stands before the colon is the verb."""
    words: str
    """What is simulated."""
    table: Callable[[np.random.Generator], Held]
    """Makes a table, asks the engine, compares with the truth."""
    target: tuple[float, float] = (0.92, 0.98)
    """The share, over all quantities and tables, that the case must lie in."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What a case gave."""

    case: Case
    tables: int
    held: Mapping[str, float]
    """Share of the intervals given that held the truth, by quantity."""
    refused: Mapping[str, float]
    """Share of the tables without an interval, by quantity."""
    mean: float
    """Share over all quantities."""
    seconds: float

    @property
    def standard_error(self) -> float:
        """Of `mean`, as if the quantities of one table were one number: the cautious end."""
        return math.sqrt(max(self.mean * (1.0 - self.mean), 0.0) / self.tables)

    @property
    def is_within(self) -> bool:
        """Whether the mean lies in the case's target."""
        return self.case.target[0] <= self.mean <= self.case.target[1]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.case.name,
            "simulated": self.case.words,
            "tables": self.tables,
            "target": list(self.case.target),
            "coverage": self.mean,
            "standard_error": self.standard_error,
            "within_target": self.is_within,
            "of_each": dict(self.held),
            "refused": {name: share for name, share in self.refused.items() if share > 0},
            "seconds": self.seconds,
        }


def measure(case: Case, tables: int = TABLES, seed: int = 0) -> Coverage:
    """Run a case on `tables` tables; table i has the random generator of (seed, i), so that any part can be redone."""
    begun = time.perf_counter()
    found = [case.table(np.random.default_rng([seed, number])) for number in range(tables)]
    held: dict[str, float] = {}
    refused: dict[str, float] = {}
    every: list[bool] = []
    for name in dict.fromkeys(name for one in found for name in one):
        given = [one[name] for one in found if one.get(name) is not None]
        held[name] = float(np.mean(given)) if given else math.nan
        refused[name] = 1.0 - len(given) / tables
        every += [bool(one) for one in given]
    mean = float(np.mean(every)) if every else math.nan
    return Coverage(
        case=case, tables=tables, held=held, refused=refused, mean=mean, seconds=time.perf_counter() - begun
    )


def all_cases() -> list[Case]:
    """Those of every `benchmarks/coverage_*.py`."""
    found: list[Case] = []
    for module in sorted(one.name for one in pkgutil.iter_modules(benchmarks.__path__)):
        if module.startswith(PREFIX):
            found += importlib.import_module(f"benchmarks.{module}").cases()
    return found


def write(path: Path, measured: list[Coverage]) -> None:
    """Put the cases into the JSON file; those of earlier calls that were not measured now stay."""
    from benchmarks import machine  # torch takes most of the start

    earlier = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    new = {one.case.name: one.as_json() | {"machine": machine.describe()["processor"]} for one in measured}
    rows = [new.pop(row["name"], row) for row in earlier] + list(new.values())
    content = {"format": 1, "machine": machine.describe(), "rows": rows}
    path.write_text(json.dumps(_plain(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main() -> None:
    """Measure, print a line a case, write the JSON where a file is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--only", metavar="NAME", help="cases whose name has this in it")
    parser.add_argument("--tables", type=int, default=TABLES, help=f"simulated tables a case (default {TABLES})")
    parser.add_argument("--json", type=Path, nargs="?", const=RESULTS, help=f"file to update (default {RESULTS})")
    given = parser.parse_args()
    cases = [case for case in all_cases() if given.only is None or given.only in case.name]
    for case in cases:
        one = measure(case, given.tables)
        mark = "" if one.is_within else f"  outside {case.target[0]:g} to {case.target[1]:g}"
        each = " ".join(f"{name} {share:.3f}" for name, share in one.held.items())
        refused = max(one.refused.values(), default=0.0)
        print(f"{case.name:48} {one.mean:.3f} +- {one.standard_error:.3f}  refused {refused:.3f}"
              f"  {one.seconds:.0f} s{mark}\n    {each}", flush=True)  # fmt: skip
        if given.json is not None:
            write(given.json, [one])


if __name__ == "__main__":
    main()
