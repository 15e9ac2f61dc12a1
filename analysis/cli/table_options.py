"""The options by which a verb is told where its points are: the table, which column is what, which rows stay out."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path

from analysis.errors import TableError
from analysis.tables import ColumnMap, Filters, Observations, read, read_experiment
from analysis.tables.mlflow import PREFIX

NONE = "none"


def add_table(parser: argparse.ArgumentParser) -> None:
    """Every option of `points_of`."""
    parser.add_argument(
        "table", nargs="?", metavar="TABLE", help=f".csv, .tsv, .parquet or .jsonl file, or {PREFIX}EXPERIMENT"
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
    columns.add_argument("--cluster", metavar="COL", help="rows with one value are drawn together in the bootstrap")
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
    rows.add_argument("--drop-invalid", action="store_true", help="leave out rows that lack a sensible number")
    rows.add_argument("--drop-duplicates", action="store_true", help="leave out rows that stand twice")
    file = parser.add_argument_group("the file")
    file.add_argument("--separator", metavar="CHAR", help="between values of a .csv file (default ','); tab for a tab")
    file.add_argument("--thousands", metavar="CHAR", default="", help="mark inside numbers, as ',' in 1,000")
    file.add_argument("--tracking-uri", metavar="URI", help="MLflow's store (default: $MLFLOW_TRACKING_URI)")


def points_of(
    chosen: argparse.Namespace, *, reads: Collection[str] = (), more: Mapping[str, str] | None = None
) -> Observations:
    """The points that the options name. Raises TableError.

    `reads` are the letters a law reads: FLOPs given in the place of tokens that it reads stand for them, D = C / (6 N).
    `more` are further columns by name.
    """
    if chosen.table is None:
        raise TableError(f"no TABLE is given; give a .csv, .tsv, .parquet or .jsonl file, or {PREFIX}EXPERIMENT")
    if chosen.loss is None:
        raise TableError("no --loss COL is given; every fit needs the column of the loss")
    in_place = chosen.tokens is None and chosen.flops is not None and chosen.params is not None
    roles = ColumnMap(
        loss=chosen.loss,
        params=chosen.params,
        tokens=chosen.tokens,
        flops=chosen.flops,
        factors={**_factors(chosen.factor), **(more or {})},
        cluster=chosen.cluster,
        status=None if chosen.status == NONE else chosen.status,
        seed=None if chosen.seed_column == NONE else chosen.seed_column,
        learning_rate=chosen.learning_rate,
        schedule_tokens=chosen.schedule_tokens,
        tokens_from_flops=chosen.tokens_from_flops or (in_place and "D" in reads),
        flops_from_tokens=chosen.flops_from_tokens,
    )
    rules = Filters(
        where=chosen.where,
        drop_highest=chosen.drop_highest,
        drop_invalid=chosen.drop_invalid,
        drop_duplicates=chosen.drop_duplicates,
    )
    if chosen.table.startswith(PREFIX):
        return read_experiment(chosen.table.removeprefix(PREFIX), roles, rules, tracking_uri=chosen.tracking_uri)
    return read(Path(chosen.table), roles, rules, separator=_separator(chosen.separator), thousands=chosen.thousands)


def _factors(given: list[str]) -> dict[str, str]:
    factors: dict[str, str] = {}
    for one in given:
        name, equals, column = one.partition("=")
        if not equals or not name or not column:
            raise TableError(f"--factor {one}: write it as NAME=COLUMN, such as --factor E=num_experts")
        if name in factors:
            raise TableError(f"--factor {name} is given twice: '{factors[name]}' and '{column}'")
        factors[name] = column
    return factors


def _separator(given: str | None) -> str | None:
    if given is None:
        return None
    mark = {"tab": "\t", "\\t": "\t"}.get(given, given)
    if len(mark) != 1 or mark in '\r\n"' or not mark.isascii():
        raise TableError(f"--separator {given!r}: give one character, such as ';', or tab")
    return mark
