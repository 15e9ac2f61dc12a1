"""`python -m analysis downstream`: a task's metric from compute, by a law of the loss and a link to the metric."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from analysis import formatting
from analysis.card import FORMAT
from analysis.cli import table_options
from analysis.cli.output import TERMINAL, print_json, print_warnings, write_json
from analysis.downstream.two_steps import LINKS, Prediction, TwoSteps, two_steps
from analysis.errors import FitError
from analysis.fitting import OBJECTIVES
from analysis.fitting.law_columns import columns_for
from analysis.laws.registry import law_named
from analysis.report import fit_json
from analysis.tables import Observations

METRIC = "metric"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    table_options.add_table(parser)
    parser.add_argument("--metric", metavar="COL", required=True, help="column of the task's metric")
    parser.add_argument("--law", metavar="LAW", default="chinchilla", help="of the loss (default chinchilla)")
    parser.add_argument("--link", choices=tuple(LINKS), default="exponential", help="from loss to metric")
    parser.add_argument("--chance", type=float, metavar="X", help="the metric of a model that knows nothing, if known")
    parser.add_argument("--objective", choices=tuple(OBJECTIVES), default="log_huber", help="of the law")
    parser.add_argument("--hold-out", type=int, metavar="K", default=0, help="predict the K runs of most FLOPs")
    parser.add_argument("--bootstrap", type=int, metavar="B", default=1000, help="resamples (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    parser.add_argument("--figures", metavar="DIR", type=Path, help="draw both steps into this folder")
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write JSON (without FILE: print it)")


def run(chosen: argparse.Namespace) -> int:
    law = law_named(chosen.law)
    reads = {column.name for column in law.columns}
    points = table_options.observations(chosen, reads=reads, more={METRIC: chosen.metric})
    columns = columns_for(law, points.columns)
    held = _held_out(points, chosen.hold_out)
    found = two_steps(
        law,
        columns,
        points.loss,
        points.columns[METRIC],
        link=chosen.link,
        floor=chosen.chance,
        in_law=~held,
        in_link=~held,
        objective=chosen.objective,
        num_replicates=chosen.bootstrap,
        seed=chosen.seed,
    )
    rows = np.flatnonzero(held)
    predicted = found.predict({name: values[rows] for name, values in columns.items()}) if len(rows) else None
    content = _as_json(found, points, rows, predicted)
    made: list[Path] = []
    if chosen.figures is not None:
        from analysis.figures import downstream  # matplotlib takes most of the start

        made += downstream.write(
            found, columns, points.loss, points.columns[METRIC], held, chosen.figures, metric=chosen.metric
        )
    if chosen.json == TERMINAL:
        print_json(content)
        return 0
    if chosen.json is not None:
        made.append(write_json(Path(chosen.json), content))
    print(fit_json.as_text(found.law))
    print(fit_json.as_text(found.link))
    if predicted is not None:
        print("\nruns that neither step was fitted to:")
        for line in _lines(points, rows, predicted, chosen.metric):
            print(line)
    print_warnings(points.warnings)
    print("".join(f"{path}\n" for path in made), end="")
    return 0


def _held_out(points: Observations, number: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if not 0 <= number < len(points):
        raise FitError(f"--hold-out {number}: there are {len(points)} runs, and some have to be left to fit")
    columns = points.columns
    scale = columns.get("C", 6.0 * columns["N"] * columns["D"] if {"N", "D"} <= set(columns) else -points.loss)
    held = np.zeros(len(points), dtype=bool)
    held[np.argsort(-scale, kind="stable")[:number]] = True
    return held


def _as_json(
    found: TwoSteps, points: Observations, rows: np.ndarray[tuple[int], np.dtype[np.intp]], predicted: Prediction | None
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "table": points.source,
        "exclusions": [{"row": one.row, "rule": one.rule, "reason": one.reason} for one in points.exclusions],
        "law": fit_json.body(found.law),
        "link": fit_json.body(found.link),
        "held_out": []
        if predicted is None
        else [
            {
                "row": int(points.row[row]),
                "loss": float(points.loss[row]),
                "loss_predicted": float(predicted.loss[at]),
                "loss_ci95": predicted.loss_ci95[:, at].tolist(),
                "metric": float(points.columns[METRIC][row]),
                "metric_predicted": float(predicted.metric[at]),
                "metric_ci95": predicted.metric_ci95[:, at].tolist(),
            }
            for at, row in enumerate(rows)
        ],
        "warnings": list(points.warnings),
    }


def _lines(
    points: Observations, rows: np.ndarray[tuple[int], np.dtype[np.intp]], predicted: Prediction, name: str
) -> list[str]:
    lines = []
    for at, row in enumerate(rows):
        parts = []
        for words, true, value, ends in (
            ("loss", points.loss[row], predicted.loss[at], predicted.loss_ci95[:, at]),
            (name, points.columns[METRIC][row], predicted.metric[at], predicted.metric_ci95[:, at]),
        ):
            error = formatting.significant(100 * abs(value - true) / abs(true)) if true else "-"
            parts.append(f"{words} {value:.4f} [{ends[0]:.4f}, {ends[1]:.4f}], measured {true:.4f} ({error} % off)")
        lines.append(f"  row {points.row[row]}: " + "; ".join(parts))
    return lines
