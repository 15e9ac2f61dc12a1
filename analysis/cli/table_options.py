"""The options of the table, which every verb has: where it is, which column is what, which rows are left out."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from analysis.errors import TableError
from analysis.tables import Observations, observe, read
from analysis.tables.cells import MLFLOW
from analysis.tables.filters import AUTO, CHECKPOINTS
from analysis.tables.frames import text_columns

NONE = "none"


def add_table(parser: argparse.ArgumentParser) -> None:
    """Every option that `observations` reads."""
    parser.add_argument(
        "table", nargs="?", metavar="TABLE", help=f".csv, .tsv, .parquet, .jsonl or .xlsx file, or {MLFLOW}EXPERIMENT"
    )
    columns = parser.add_argument_group("columns of the table")
    columns.add_argument("--params", metavar="COL", help="N, parameters of the model")
    columns.add_argument("--tokens", metavar="COL", help="D, tokens of training")
    columns.add_argument("--flops", metavar="COL", help="C, FLOPs of training")
    columns.add_argument("--loss", metavar="COL", help="what is fitted")
    columns.add_argument(
        "--factor", metavar="NAME=COL", action="append", default=[], help="any other column that a law reads, by name"
    )
    columns.add_argument(
        "--tokens-from-flops",
        action="store_true",
        help="derive D = C / (6 N), as --flops without --tokens does for a law that reads D",
    )
    columns.add_argument("--flops-from-tokens", action="store_true", help="derive C = 6 N D")
    columns.add_argument("--cluster", metavar="COL", help="rows with one value of it are resampled together")
    columns.add_argument("--weight", metavar="COL", help="weight of a row in the fit")
    columns.add_argument("--stderr", metavar="COL", help="standard error of a row's loss")
    columns.add_argument(
        "--units", metavar="COUNT=UNIT", action="append", default=[],
        help="of params, tokens or flops, as params=B, tokens=T, flops=PF-days; params=1: as they are",
    )  # fmt: skip
    columns.add_argument("--train", metavar="COL", help="train or test (true or false): test rows are only predicted")
    columns.add_argument(
        "--status", metavar="COL", default="status", help="how a run ended (default: status, where it is; or none)"
    )
    columns.add_argument(
        "--seed-column", metavar="COL", default="seed", help="a run's seed (default: seed, where it is; or none)"
    )
    columns.add_argument("--learning-rate", metavar="COL", help="to be warned of rates at the edge of their sweep")
    columns.add_argument(
        "--schedule-tokens", metavar="COL", help="tokens at which a run's schedule ends, to be warned of other ends"
    )
    rows = parser.add_argument_group("rows of the table")
    rows.add_argument("--where", metavar="EXPR", help="keep rows that meet this, e.g. \"loss < 4 and data == 'c4'\"")
    rows.add_argument("--drop-highest", metavar="K", type=int, default=0, help="leave out the K highest losses")
    rows.add_argument(
        "--best-of", metavar="COL", help="of rows that agree in all but this learning rate keep the lowest loss's"
    )
    rows.add_argument(
        "--checkpoints", choices=CHECKPOINTS, default=AUTO,
        help="rows of one run: resample them by run (auto, cluster), keep the last (final), or take each as a run",
    )  # fmt: skip
    rows.add_argument("--drop-invalid", action="store_true", help="leave out rows that lack a sensible number")
    rows.add_argument(
        "--drop-duplicates",
        action="store_true",
        help="leave out rows that repeat an earlier one",
    )
    file = parser.add_argument_group("the file")
    file.add_argument("--separator", metavar="CHAR", help="between values of a .csv file (default ','); tab for a tab")
    file.add_argument("--decimal", metavar="CHAR", default=".", help="decimal mark of a .csv file, as ',' in 3,14")
    file.add_argument("--sheet", metavar="NAME", help="of an .xlsx file with several")
    file.add_argument("--thousands", metavar="CHAR", default="", help="mark inside numbers, as ',' in 1,000")
    file.add_argument("--tracking-uri", metavar="URI", help="MLflow's store (default: $MLFLOW_TRACKING_URI)")


OPTIONS = ("loss", "params", "tokens", "flops", "cluster", "learning_rate", "schedule_tokens", "weight", "stderr",
           "train", "where", "best_of", "checkpoints", "drop_highest", "drop_invalid", "drop_duplicates",
           "tokens_from_flops", "flops_from_tokens")  # fmt: skip
"""Options that `observe` knows by the same name."""


def observations(
    chosen: argparse.Namespace, *, reads: Collection[str] = (), more: Mapping[str, str] | None = None
) -> Observations:
    """The table that the options name, read and checked. Raises TableError.

    `reads` are the letters that a law reads, `more` further columns by name; see `observe`.
    """
    return frame_and_observations(chosen, reads=reads, more=more)[1]


def frame_and_observations(
    chosen: argparse.Namespace,
    *,
    reads: Collection[str] = (),
    more: Mapping[str, str] | None = None,
    family: str | None = None,
) -> tuple[pd.DataFrame, Observations]:
    """The table as it is, and as `observations` gives it; `family` is the column that names each row's family."""
    if chosen.table is None:
        raise TableError(f"no TABLE is given; give a .csv, .tsv, .parquet, .jsonl or .xlsx file, or {MLFLOW}EXPERIMENT")
    table = read(
        chosen.table,
        text=text_columns(chosen.cluster, family, where=chosen.where),
        separator=_separator(chosen.separator),
        decimal=chosen.decimal,
        thousands=chosen.thousands,
        sheet=chosen.sheet,
        tracking_uri=chosen.tracking_uri,
    )
    options: dict[str, Any] = {name: value for name in OPTIONS if (value := getattr(chosen, name)) is not None}
    options["factors"] = {**_pairs("factor", chosen.factor), **(more or {})}
    options["units"] = _pairs("units", chosen.units)
    options["status"] = None if chosen.status == NONE else chosen.status
    options["seed_column"] = None if chosen.seed_column == NONE else chosen.seed_column
    return table, observe(table, reads=reads, family=family, **options)


def _pairs(option: str, given: list[str]) -> dict[str, str]:
    """NAME=VALUE words as a mapping. Raises TableError."""
    shape = {"factor": "NAME=COLUMN, such as --factor E=num_experts", "units": "COUNT=UNIT, such as --units params=B"}
    pairs: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name or not value:
            raise TableError(f"--{option} {one}: write it as {shape[option]}")
        if name in pairs:
            raise TableError(f"--{option} {name} is given twice: '{pairs[name]}' and '{value}'")
        pairs[name] = value
    return pairs


def _separator(given: str | None) -> str | None:
    if given is None:
        return None
    mark = {"tab": "\t", "\\t": "\t"}.get(given, given)
    if len(mark) != 1 or mark in '\r\n"' or not mark.isascii():
        raise TableError(f"--separator {given!r}: give one character, such as ';', or tab")
    return mark
