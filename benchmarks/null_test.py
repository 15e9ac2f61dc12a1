"""A/A tests of the report's comparison: how often it calls a difference where there is none.

`python -m benchmarks.null_test [TABLE ...] [--null TABLE ...] [--seeds 3] [--pairs 400] [--json FILE]`. Each TABLE is a
results table with many seeds of one series (real runs of one setting); each --null TABLE is that of a sweep whose two
families are one under two names. Without a table, simulated runs: noise alone, shared over the budgets of a seed,
growing with the budget, and heavy-tailed (Student's t with 4 degrees of freedom).

The JSON has, for each table, measure and place, how many pairs were called, at 95 % and over whole sequences of
readings (`analysis.inference.sequential`). Expected: 3 to 7 %; the verdict of the report
asks for two intervals and calls less.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.gains.measures import LOSS, measures, named_pairs
from analysis.gains.null_test import ONE, OTHER, NullTest, calls_of, resampled_pairs, sequential_calls
from analysis.tables.results import read_results
from analysis.tables.runs import Runs

RESULTS = Path(__file__).parent / "results" / "null_test.json"
KINDS = ("alone", "shared", "growing", "heavy tails")
BUDGETS = (1e15, 2e15, 4e15)
READINGS = (2, 3, 4, 6, 8)


def simulated(random: np.random.Generator, kind: str, num_seeds: int, num_families: int = 3) -> Runs:
    """One table of families without a difference; the first two are to be compared."""
    made = []
    draw = (lambda: random.standard_t(4) / 2**0.5) if kind == "heavy tails" else random.standard_normal
    for family in (chr(ord(ONE) + at) for at in range(num_families)):
        together = random.standard_normal(num_seeds) * (0.5**0.5 if kind == "shared" else 0.0)
        for at, flops in enumerate(BUDGETS):
            size = 0.01 * (2.0**at if kind == "growing" else 1.0)
            for seed in range(num_seeds):
                own = draw() * (0.5**0.5 if kind == "shared" else 1.0)
                made.append(("", family, family, f"{flops:g}", seed, flops, flops, 3.0 + size * (together[seed] + own)))
    columns = ["name", "family", "series", "budget", "seed", "budget_flops", "flops_train", "loss_nats"]
    return Runs(frame=pd.DataFrame(made, columns=columns))


def of_simulations(kind: str, num_seeds: int, num_pairs: int) -> list[NullTest]:
    """The plain rule and the sequential one on simulated tables."""
    plain = (
        (simulated(np.random.default_rng([0, number]), kind, num_seeds), ONE, OTHER) for number in range(num_pairs)
    )
    read_on = (simulated(np.random.default_rng([1, number]), kind, READINGS[-1]) for number in range(num_pairs))
    return [calls_of(plain, [LOSS]), sequential_calls(read_on, [LOSS], READINGS)]


def of_table(path: Path, num_seeds: int, num_pairs: int) -> list[NullTest]:
    """The same on resampled pairs of a table's runs."""
    runs = read_results(path).compare
    most = max(len(set(runs.seed[runs.of(label)].tolist())) for label in runs.labels) // 2
    found = [resampled_pairs(runs, measures(runs), num_seeds=min(num_seeds, most), num_pairs=num_pairs)]
    readings = [count for count in READINGS if count <= most]
    if len(readings) > 1:
        found.append(resampled_pairs(runs, measures(runs), readings=readings, num_pairs=num_pairs))
    return found


def of_null_sweeps(paths: Sequence[Path]) -> list[NullTest]:
    """The plain rule on sweeps that compare a family with itself."""
    tables = [read_results(path).compare for path in paths]
    pairs = ((runs, *pair) for runs in tables for pair in named_pairs(runs))
    return [calls_of(pairs, measures(tables[0]))]


def rows(source: str, found: list[NullTest]) -> list[dict[str, Any]]:
    """The calls as plain JSON."""
    return [
        {
            "source": source,
            "measure": one.measure,
            "at": one.at,
            "pairs": one.pairs,
            "called": one.called,
            "share": one.share,
            "standard_error": one.standard_error,
            "below_and_above": list(one.sides),
        }
        for test in found
        for one in test.calls
    ]


def main() -> None:
    """Test, print, write the JSON where a file is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null_test", description=__doc__)
    parser.add_argument("tables", nargs="*", type=Path, metavar="TABLE")
    parser.add_argument("--null", nargs="*", type=Path, default=[], metavar="TABLE")
    parser.add_argument("--seeds", type=int, default=3, help="of each family (default 3)")
    parser.add_argument("--pairs", type=int, default=400, help="pairs a table (default 400)")
    parser.add_argument("--json", type=Path, nargs="?", const=RESULTS, help=f"file to update (default {RESULTS})")
    given = parser.parse_args()
    named = [(str(path), of_table(path, given.seeds, given.pairs)) for path in given.tables]
    if given.null:
        named.append((f"{len(given.null)} null sweeps", of_null_sweeps(given.null)))
    if not named:
        named = [
            (f"simulated, noise {kind}, {len(BUDGETS)} budgets x {given.seeds} seeds x 3 families",
             of_simulations(kind, given.seeds, given.pairs))
            for kind in KINDS
        ]  # fmt: skip
    for source, found in named:
        print(source, *(test.summary() for test in found), sep="\n", flush=True)
    if given.json is not None:
        made = [row for source, found in named for row in rows(source, found)]
        sources = {row["source"] for row in made}
        earlier = json.loads(given.json.read_text(encoding="utf-8"))["rows"] if given.json.is_file() else []
        kept = [row for row in earlier if row["source"] not in sources]
        content = {"format": 1, "rows": [*kept, *made]}
        given.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
