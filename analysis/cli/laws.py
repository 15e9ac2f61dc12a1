"""`python -m analysis laws`: a sweep's laws of memory tables and experts, ranked by held-out extrapolation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from analysis.card import FORMAT, ends, finite
from analysis.cli.output import TERMINAL, print_json, write_json
from analysis.fitting.law_ranking import RankedLaw
from analysis.sweep.memory_laws import LawTable, MemoryLaws, memory_laws
from analysis.tables.results import read_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("table", metavar="RESULTS", type=Path, help="a sweep's results.parquet or results.csv")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws behind intervals (default: 0)")
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write JSON (without FILE: print it)")
    parser.add_argument("--figures", metavar="DIR", type=Path, help="draw the held-out errors into it")


def run(chosen: argparse.Namespace) -> int:
    """Fit, rank, write, print."""
    results = read_results(chosen.table)
    found = memory_laws(results, seed=chosen.seed)
    content = {"sha256": results.sha256, **as_json(found)}
    made: list[Path] = []
    if chosen.json not in (None, TERMINAL):
        made.append(write_json(Path(chosen.json), content))
    if chosen.figures is not None:
        from analysis.figures import memory_laws as figures  # matplotlib takes most of the start

        made += figures.write(found, chosen.figures)
    if chosen.json == TERMINAL:
        print_json(content)
    else:
        print(found.summary())
        print("".join(f"{path}\n" for path in made), end="")
    return 0


def as_json(found: MemoryLaws) -> dict[str, Any]:
    """The card of kind 'laws'."""
    return {
        "format": FORMAT,
        "kind": "laws",
        "source": found.source,
        "tables": [_table(table) for table in found.tables],
        "not_made": list(found.not_made),
    }


def _table(table: LawTable) -> dict[str, Any]:
    return {
        "family": table.runs.family,
        "target": table.target.key,
        "unit": table.target.unit,
        "n": len(table.target.value),
        "counts_per_bit": table.per_bit,
        "noise": finite(table.noise),
        "laws": [_law(one) for one in table.laws],
    }


def _law(one: RankedLaw) -> dict[str, Any]:
    return {
        "law": one.law.name,
        "formula": one.law.formula,
        "score": finite(one.score),
        "over_first": finite(one.over_first),
        "over_first_ci95": ends(one.over_first_ci95),
        "fit_rms": finite(one.fit_rms),
        "held_out": {
            kind: {
                "rms": finite(error.rms),
                "ci95": ends(error.ci95),
                "parts": [
                    {
                        "left_out": part.label,
                        "n": len(part.rows),
                        "rms": finite(part.rms),
                        "reason": part.reason or None,
                    }
                    for part in error.parts
                ],
            }
            for kind, error in one.errors.items()
        },
        "coefficients": None
        if one.fit is None
        else {
            each.name: {"value": finite(each.value), "ci95": ends(each.ci95), "identified": each.identified}
            for each in one.fit.coefficients
        },
        "reason": one.reason or None,
    }
