"""`python -m analysis predict`: the loss of runs that were not made, by a law fitted to those that were."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.card import card, finite
from analysis.cli import fit_options, table_options
from analysis.cli.output import TERMINAL, print_json, write_json
from analysis.errors import FitError
from analysis.fitting import fit, predict
from analysis.fitting.predict import Predictions
from analysis.laws.registry import law_named
from analysis.tables import Observations, read
from analysis.tables.units import COUNTS, count_with_unit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    table_options.add_table(parser)
    parser.add_argument("--law", metavar="LAW", default="chinchilla", help="default chinchilla")
    parser.add_argument(
        "--at",
        metavar="NAME=VALUE,...",
        action="append",
        default=[],
        help="a column that the law reads, at these values, such as N=10B D=2e11,4e11 (every combination)",
    )
    parser.add_argument("--at-table", metavar="FILE", type=Path, help="a table of runs, with columns by letter")
    fit_options.add_fit(parser)
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write JSON (without FILE: print it)")


def run(chosen: argparse.Namespace) -> int:
    """Fit, predict, print."""
    law = law_named(chosen.law)
    at = _at(chosen.at, chosen.at_table)
    observations = table_options.observations(chosen, reads={column.name for column in law.columns})
    found = predict(fit(observations, law, **fit_options.choices(chosen)), at, seed=chosen.seed)
    content = as_json(found, observations)
    if chosen.json == TERMINAL:
        print_json(content)
        return 0
    print(found.summary())
    if chosen.json is not None:
        print(write_json(Path(chosen.json), content))
    return 0


def _at(given: list[str], table: Path | None) -> pd.DataFrame:
    """Every combination of the values of --at, or the rows of --at-table. Raises FitError."""
    if table is not None and given:
        raise FitError("--at and --at-table are both given; give the runs to predict by one of them")
    if table is not None:
        return read(table)
    values: dict[str, list[float]] = {}
    for one in given:
        name, _, numbers = one.partition("=")
        values[name] = [_number(name, number) for number in numbers.split(",")]
        if not name or not np.isfinite(values[name]).all():
            units = f" ({', '.join(COUNTS)} may have a unit: K, M, B or T, as in N=10B)"
            raise FitError(f"--at {one}: write it as NAME=NUMBER,..., such as --at N=1e10{units}")
    if not values:
        raise FitError("no run to predict is given: --at N=1e10 --at D=2e11, or --at-table FILE")
    return pd.DataFrame(list(itertools.product(*values.values())), columns=list(values))


def _number(name: str, word: str) -> float:
    """A value of --at; not-a-number for any other text. Counts may have a unit, as in a table."""
    try:
        return float(word)
    except ValueError:
        value = count_with_unit(word) if name in COUNTS else None
        return np.nan if value is None else value


def as_json(found: Predictions, observations: Observations) -> dict[str, object]:
    """The card of kind 'predict'."""
    noise = found.noise
    rows = [
        {
            **{column.name: float(row[column.name]) for column in found.fit.law.columns},
            "loss": float(row["loss"]),
            "law_ci95": [finite(row["law_lower"]), finite(row["law_upper"])],
            "run_ci95": [finite(row["run_lower"]), finite(row["run_upper"])],
            "extrapolation": float(row["extrapolation"]),
        }
        for _, row in found.frame.iterrows()
    ]
    return card(
        "predict",
        observations,
        (one for one in found.warnings if one.code != "table"),
        law=found.fit.law.name,
        formula=found.fit.law.formula,
        coefficients=found.fit.values,
        noise=None
        if noise is None
        else {"std": noise.std, "degrees": noise.degrees, "source": noise.source, "kind": noise.kind,
              "slope": noise.slope},
        predictions=rows,
    )  # fmt: skip
