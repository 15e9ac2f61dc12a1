"""`memscale results`: one row a run, written as Parquet and CSV and shown in short."""

from __future__ import annotations

import argparse
import json

from rich.table import Table

from memscale.cli import arguments
from memscale.cli.console import console
from memscale.launch.finish import ReaderError, collect_results, read_rows
from memscale.launch.formatting import exact, quantity
from memscale.launch.planned import launched
from memscale.records.layout import SweepPaths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_sweep(parser)
    arguments.add_out(parser)
    arguments.add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    paths, plan = launched(given.sweep)
    where, refused = SweepPaths(given.out.absolute()) if given.out else paths, ""
    try:
        rows = collect_results(paths, plan, given.out)
    except ReaderError as error:
        rows, refused = read_rows(paths, plan), f"not written: {error}"
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
    print(refused or f"all columns: {where.results_csv} and {where.results_parquet}")
    return 0


def _short(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
