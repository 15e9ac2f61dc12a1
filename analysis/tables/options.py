"""`TableOptions`: the keywords of all public functions for the columns and rows of a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypedDict

from analysis.errors import TableError
from analysis.tables.columns import ColumnMap
from analysis.tables.filters import Filters
from analysis.tables.observations import FLOPS, LOSS, PARAMS, TOKENS

KEYWORDS = {PARAMS: "params", TOKENS: "tokens", FLOPS: "flops"}


class TableOptions(TypedDict, total=False):
    """Columns by what they hold, and rules for rows; the fields of `ColumnMap` and of `Filters`, as keywords."""

    loss: str
    params: str
    tokens: str
    flops: str
    factors: Mapping[str, str]
    cluster: str
    status: str | None
    seed_column: str | None
    learning_rate: str
    schedule_tokens: str
    weight: str
    stderr: str
    train: str
    units: Mapping[str, str]
    tokens_from_flops: bool
    flops_from_tokens: bool
    where: str
    drop_invalid: bool
    drop_duplicates: bool
    drop_highest: int
    best_of: str
    checkpoints: str


def resolve(
    source: str, names: Sequence[str], options: Mapping[str, Any], reads: Collection[str]
) -> tuple[ColumnMap, Filters]:
    """Columns and filters from keywords.

    A letter that no option names is the column of that name, where the table has one: those in `reads`, else N, D
    and C; and 'loss'. FLOPs given instead of the tokens replace them: D = C / (6 N).
    """
    mapped = {field.name for field in fields(ColumnMap)}
    rules = {field.name for field in fields(Filters)}
    unknown = sorted(set(options) - mapped - rules)
    if unknown:
        raise TableError(f"there is no table option '{unknown[0]}'; there are: {', '.join(sorted(mapped | rules))}")
    # A DataFrame's names may be numbers; here all are text.
    columns: dict[str, Any] = {
        name: str(value) if type(value) is int else value for name, value in options.items() if name in mapped
    }
    factors = dict(columns.get("factors") or {})
    used = {value for value in columns.values() if isinstance(value, str)} | set(factors.values())
    for letter in reads or KEYWORDS:
        if letter in names and letter not in used and letter not in factors:
            keyword = KEYWORDS.get(letter)
            if keyword is None:
                factors[letter] = letter
            elif columns.get(keyword) is None and not _derived(letter, columns):
                columns[keyword] = letter
    columns["factors"] = factors
    if columns.get("loss") is None:
        if LOSS not in names:
            listed = ", ".join(f"'{name}'" for name in names[:30])
            raise TableError(f"{source}: no column of the loss is named (--loss COL, or loss=...). It has: {listed}")
        columns["loss"] = LOSS
    in_place = columns.get("tokens") is None and columns.get("flops") and columns.get("params")
    if TOKENS in reads and in_place and not columns.get("flops_from_tokens"):
        columns["tokens_from_flops"] = True
    return ColumnMap(**columns), Filters(**{name: value for name, value in options.items() if name in rules})


def _derived(letter: str, columns: Mapping[str, Any]) -> bool:
    option = {TOKENS: "tokens_from_flops", FLOPS: "flops_from_tokens"}.get(letter, "")
    return bool(columns.get(option))
