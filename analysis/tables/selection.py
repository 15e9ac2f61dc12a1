"""`observe`: a table's rows as observations: columns by letter, filters in their order, every number checked.

Refuses, by row and column, what no law can be fitted to (unless --drop-invalid leaves such rows out): empty, infinite,
zero or negative parameters, tokens, FLOPs and losses, factors that are no finite number, text in place of a number.
Refuses a table of which no row is left. Warns of what it concluded: replicates, duplicates, columns that do not vary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import formatting
from analysis.errors import TableError
from analysis.tables.cells import parsed, place, source, text, text_for_number
from analysis.tables.checkpoints import by_run, find_checkpoints
from analysis.tables.columns import FAMILY, RATE, SCHEDULE, ColumnMap
from analysis.tables.filters import (
    INDEPENDENT,
    Filters,
    best_rates,
    by_condition,
    by_stage,
    by_status,
    highest,
)  # fmt: skip
from analysis.tables.frames import TableLike, as_frame, text_columns
from analysis.tables.observations import (
    CLUSTER,
    FLOPS,
    HELD_OUT,
    LOSS,
    NO_FACTORS,
    PARAMS,
    SETTING,
    STDERR,
    TOKENS,
    WEIGHT,
    Exclusion,
    Observations,
)  # fmt: skip
from analysis.tables.options import TableOptions, resolve
from analysis.tables.replicates import Repeats, find_repeats
from analysis.tables.table_warnings import flat_warnings, repeat_warnings, training_warnings
from analysis.tables.units import Units

if TYPE_CHECKING:
    from typing_extensions import Unpack

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

LARGEST = 1e100
"""Largest number of a column; products of three are still finite."""
POSITIVE = (PARAMS, TOKENS, FLOPS, LOSS, WEIGHT, STDERR, RATE, SCHEDULE)
NO_SETTING = (LOSS, WEIGHT, STDERR, SCHEDULE)
"""Columns in which replicates may differ."""
TRAIN, TEST = ("train", "training", "fit", "true", "1"), ("test", "held_out", "held-out", "heldout", "false", "0")


def observe(
    table: TableLike | Observations,
    columns: ColumnMap | None = None,
    filters: Filters | None = None,
    *,
    reads: Collection[str] = (),
    family: str | None = None,
    **options: Unpack[TableOptions],
) -> Observations:
    """Turn a table of runs into checked numbers by letter: N parameters, D tokens, C training FLOPs, loss.

    Args:
        table: A pandas or polars DataFrame, a path, or observations, which are given back as they are.
        columns: Which column is which quantity; instead of it, keywords.
        filters: Which rows are left out; instead of it, keywords.
        reads: The letters that a law reads, which are taken from columns of that name where no option names another.
        family: Column that names the family of each row: rows of two families are never replicates or duplicates of
            each other, whatever else they share.
        **options: The fields of `ColumnMap` and `Filters` by name: loss, params, tokens, flops, factors, where, ...
            Without them, the columns named N, D, C and loss are taken.

    Returns:
        The rows that are left, and what was left out, by row with the reason.

    Raises:
        TableError: A column that is not there, a value that no law can be fitted to, a status that is not known, or
            no row left; names the source, row (counted from 1) and column.

    Example:
        >>> runs = {"Model Size": [1e8, 1e9], "tokens": [2e9, 2e10], "loss": [3.4, 2.7], "status": ["done", "failed"]}
        >>> observations = observe(runs, params="Model Size", tokens="tokens")
        >>> observations.frame[["N", "D", "loss"]]
                       N             D  loss
        row
        1    100000000.0  2.000000e+09   3.4
        >>> observations.exclusions
        (Exclusion(row=2, rule='status', reason='failed: it has no final loss'),)
    """
    if isinstance(table, Observations):
        if columns is not None or filters is not None or options:
            raise TableError("these observations are read already: give options of columns and rows to the table")
        return table
    cluster = options.get("cluster") if columns is None else columns.cluster
    where = options.get("where") if filters is None else filters.where
    frame = as_frame(table, text=text_columns(cluster, family, where=where))
    if columns is None or options:
        if columns is not None or filters is not None:
            raise TableError("give either columns and filters, or keywords for both, not a mixture")
        columns, filters = resolve(source(frame), list(frame.columns), options, reads)
    return _observe(frame, columns, filters or Filters(), family)


def _observe(table: pd.DataFrame, columns: ColumnMap, filters: Filters, family: str | None) -> Observations:
    condition = filters.condition
    columns = filters.with_rate(columns)
    columns.check(source(table), list(table.columns), family)
    if len(table) == 0:
        raise TableError(f"{source(table)} has a header, but no row; there is nothing to fit")
    left = _Left(table=table, at=np.arange(len(table)))
    left.out(by_status(table, columns))
    left.out(by_stage(table, condition))
    if condition is not None:
        left.out(by_condition(table, condition, left.at))
    units = Units(given=columns.units)
    numbers = _numbers(left, columns, filters, units)
    here = table.iloc[left.at]
    seeds = columns.seed_column if columns.seed_column in table.columns else None
    seed = None if seeds is None else _codes(here, seeds)
    families = np.zeros(len(here)) if family is None else _codes(here, family).astype(np.float64)
    setting = [one for letter, one in numbers.items() if letter not in NO_SETTING]
    repeats = find_repeats([*setting, families], seed, numbers[LOSS])
    observations = Observations(
        source=source(table),
        sha256=str(table.attrs.get("sha256", "")),
        num_rows=len(table),
        column_names={**columns.measured(), **columns.derived(), **columns.labels()},
        frame=_frame(here, numbers, repeats, columns),
        exclusions=tuple(left.exclusions),
        warnings=(*units.warnings, *repeat_warnings(left.rows, repeats)),
    )
    if filters.checkpoints != INDEPENDENT:
        observations = by_run(
            observations, find_checkpoints(here, {**numbers, FAMILY: families}, seed), filters, columns.cluster
        )
    if filters.drop_duplicates and repeats.duplicated.any():
        twice = _duplicates(left.rows, repeats)
        observations = observations.without(twice)
    trained = {name: numbers[name] for name in (RATE, SCHEDULE) if name in numbers} | {FAMILY: families}
    kept = pd.DataFrame(trained, index=here.index).loc[observations.frame.index]
    warnings = training_warnings(observations, kept)
    if filters.best_of is not None:
        observations = observations.without(best_rates(observations, kept, filters.best_of))
    if filters.drop_highest:
        exclusions, tie = highest(observations.loss, observations.row, filters.drop_highest)
        observations = observations.without(exclusions)
        warnings = [*([tie] if tie else []), *warnings]
    return replace(observations, warnings=(*observations.warnings, *flat_warnings(observations), *warnings))


def _frame(here: pd.DataFrame, numbers: Mapping[str, FloatArray], repeats: Repeats, columns: ColumnMap) -> pd.DataFrame:
    """The rows that are left, with the columns of `Observations.frame`."""
    letters = {name: values for name, values in numbers.items() if name not in (*NO_FACTORS, RATE, SCHEDULE)}
    frame = pd.DataFrame(letters, index=here.index)
    frame[LOSS] = numbers[LOSS]
    frame[SETTING] = repeats.setting
    if columns.cluster is not None:
        frame[CLUSTER] = _codes(here, columns.cluster)
    for name in (WEIGHT, STDERR):
        if name in numbers:
            frame[name] = numbers[name]
    if columns.train is not None:
        frame[HELD_OUT] = _held_out(here, columns.train)
    return frame


def _held_out(here: pd.DataFrame, column: str) -> BoolArray:
    """Which rows are only predicted. Raises TableError for a word that is not known, and where no row is fitted."""
    words = np.array([word.lower() for word in text(here[column])], dtype=object)
    test = np.isin(words, TEST)
    for at in np.flatnonzero(~test & ~np.isin(words, TRAIN)):
        raise TableError(
            f"{source(here)}, {place(here, int(at))}, column '{column}': '{words[at]}' says neither train"
            f" ({', '.join(TRAIN)}) nor test ({', '.join(TEST)})"
        )
    if test.all():
        raise TableError(f"{source(here)}, column '{column}': no row that is left is a training row")
    return test


@dataclass(kw_only=True)
class _Left:
    """The positions (from 0) of the rows that are still in, and the rows that are out."""

    table: pd.DataFrame
    at: IntArray
    exclusions: list[Exclusion] = field(default_factory=list)

    @property
    def rows(self) -> IntArray:
        """The rows that are still in, as the source counts them."""
        return self.table.index.to_numpy(dtype=np.int64)[self.at]

    def out(self, exclusions: list[Exclusion]) -> None:
        """Leave these out, as far as they are still in. Raises TableError where none is left."""
        still = set(self.rows.tolist())
        self.exclusions += [one for one in exclusions if one.row in still]
        self.at = self.at[~np.isin(self.rows, [one.row for one in exclusions])]
        if len(self.at) == 0:
            counts = Counter(one.rule for one in self.exclusions)
            by = ", ".join(f"{count} by '{rule}'" for rule, count in counts.items())
            number = len(self.table)
            rows = f"all {number} rows are" if number > 1 else "its only row is"
            raise TableError(f"{source(self.table)}: {rows} left out ({by}); nothing is left")


def _numbers(left: _Left, columns: ColumnMap, filters: Filters, units: Units) -> dict[str, FloatArray]:
    """Every number column by letter, for the rows that are left; rows with a wrong value leave or are refused."""
    here, wrong = left.table.iloc[left.at], dict[int, str]()
    numbers = {}
    for letter, column in columns.measured().items():
        values, is_text = parsed(here, column)
        words = {int(at): text(here[column].iloc[[int(at)]])[0] for at in np.flatnonzero(is_text)}
        numbers[letter] = units.converted(source(here), letter, column, values, words)
        for at, what in _wrong(numbers[letter], positive=letter in POSITIVE).items():
            message = text_for_number(words[at]) if at in words else what
            wrong.setdefault(at, f"column '{column}': {message}")
    if wrong and not filters.drop_invalid:
        first = min(wrong)
        more = f". {formatting.counted(len(wrong) - 1, 'more row')} with such values" if len(wrong) > 1 else ""
        raise TableError(
            f"{source(here)}, {place(here, first)}, {wrong[first]}{more}. Mend the table, or leave such rows out"
            " (--drop-invalid)"
        )
    kept = np.array([at not in wrong for at in range(len(here))])
    left.out([Exclusion(row=int(here.index[at]), rule="drop-invalid", reason=wrong[at]) for at in sorted(wrong)])
    numbers = {letter: values[kept] for letter, values in numbers.items()}
    # C = 6 N D, six FLOPs a parameter and token (Kaplan et al. 2020).
    if columns.tokens_from_flops:
        numbers[TOKENS] = numbers[FLOPS] / (6 * numbers[PARAMS])
    if columns.flops_from_tokens:
        numbers[FLOPS] = 6 * numbers[PARAMS] * numbers[TOKENS]
    return numbers


def _wrong(values: FloatArray, *, positive: bool) -> dict[int, str]:
    """What is wrong with each value that no law can be fitted to, by index."""
    bad = ~(np.abs(values) <= LARGEST) | (values <= 0 if positive else np.zeros(len(values), dtype=bool))
    messages = {}
    for at in np.flatnonzero(bad):
        value = values[at]
        if np.isnan(value):
            messages[int(at)] = "it has no value"
        elif np.isinf(value):
            messages[int(at)] = "it is infinite"
        elif abs(value) > LARGEST:
            messages[int(at)] = f"it is {value:g}; numbers above {LARGEST:g} are no counts and cannot be computed with"
        else:
            messages[int(at)] = f"it is {value:g}; it must be above zero"
    return messages


def _codes(here: pd.DataFrame, column: str) -> IntArray:
    """A number for each different text of a column."""
    return pd.factorize(text(here[column]), sort=True)[0].astype(np.int64)


def _duplicates(rows: IntArray, repeats: Repeats) -> list[Exclusion]:
    return [
        Exclusion(
            row=int(rows[at]),
            rule="drop-duplicates",
            reason=f"it agrees with row {int(rows[repeats.duplicate_of[at]])} in every column that is used",
        )
        for at in np.flatnonzero(repeats.duplicated)
    ]
