"""`memscale results`: one row a run, written as Parquet and CSV and shown in short."""

from __future__ import annotations

import argparse
import json

from rich.table import Table

from memscale.cli import arguments
from memscale.cli.console import console
from memscale.cli.numbers import exact, quantity
from memscale.launch.states import read_state
from memscale.records.layout import SweepPaths
from memscale.records.plan_file import PlanFile
from memscale.records.results import Row, read_row, write_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_sweep(parser)
    arguments.add_json(parser)


def run(given: argparse.Namespace) -> int:
    paths, plan = arguments.launched(given.sweep)
    rows = collect(paths, plan)
    if given.json:
        print(json.dumps(rows, indent=1))
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("run", "status", "FLOPs", "params", "lr", "loss", "recall", "seconds"):
        table.add_column(name, justify="left" if name in ("run", "status") else "right")
    for row in rows:
        table.add_row(
            row["name"],
            row["status"],
            exact(row["budget_flops"]),
            quantity(row["params_total"]),
            f"{row['learning_rate']:g}",
            _short(row.get("loss_nats"), ".4f"),
            _short(row.get("score_facts_recall_acc"), ".3f"),
            _short(row.get("train_seconds"), ".1f"),
        )
    console().print(table)
    print(f"all columns: {paths.results_csv} and {paths.results_parquet}")
    return 0


def collect(paths: SweepPaths, plan: PlanFile) -> list[Row]:
    """Read a row for every run of the plan whose stage is open, and write the table."""
    rows = []
    for planned in plan.runs:
        folder = plan.run_paths(paths, planned)
        if folder is not None and folder.run.exists():
            rows.append(read_row(folder, read_state(folder).state))
    write_table(paths, rows)
    return rows


def _short(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
