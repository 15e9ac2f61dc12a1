"""A table's rows as points: columns by role, rules applied in their order, every number checked.

Refuses, by row and column, what no law can be fitted to (unless --drop-invalid leaves such rows out): empty, infinite,
zero or negative parameters, tokens, FLOPs and losses, factors that are no finite number, text in place of a number.
Refuses a table of which no row is left. Says what it had to conclude: replicates, duplicates, columns that do not vary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from analysis.errors import TableError
from analysis.tables.columns import RATE, SCHEDULE, ColumnMap
from analysis.tables.file import read_raw
from analysis.tables.filters import Filters, by_condition, by_stage, by_status, highest, listed
from analysis.tables.points import FLOPS, PARAMS, TOKENS, Exclusion, Observations
from analysis.tables.raw import RawTable
from analysis.tables.replicates import Repeats, find_repeats, numbered
from analysis.tables.training_checks import rates_at_the_edge, unfinished_schedules

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

POSITIVE = (PARAMS, TOKENS, FLOPS, "loss", RATE, SCHEDULE)
WORDS = {PARAMS: "parameters", TOKENS: "tokens", FLOPS: "FLOPs"}


def read(
    path: Path, roles: ColumnMap, rules: Filters | None = None, *, separator: str | None = None, thousands: str = ""
) -> Observations:
    """Read a CSV, Parquet or JSON-lines file. Raises TableError."""
    return take(read_raw(path, separator=separator, thousands=thousands), roles, rules)


def take(raw: RawTable, roles: ColumnMap, rules: Filters | None = None) -> Observations:
    """The points of a table that is read. Raises TableError."""
    rules = rules or Filters()
    condition = rules.condition
    roles.check(raw.name, raw.columns)
    if raw.num_rows == 0:
        raise TableError(f"{raw.name} has a header, but no row; there is nothing to fit")
    left = _Left(raw=raw, rows=np.arange(raw.num_rows))
    left.out(by_status(raw, roles))
    left.out(by_stage(raw, condition))
    if condition is not None:
        left.out(by_condition(raw, condition, left.rows))
    numbers = _numbers(left, roles, rules)
    seed = _codes(raw, roles.seed, left.rows) if roles.seed in raw.columns else None
    settings = [values for letter, values in numbers.items() if letter not in ("loss", SCHEDULE)]
    repeats = find_repeats(settings, seed, numbers["loss"])
    warnings = _said(left.rows, repeats)
    trained = {letter: numbers.pop(letter) for letter in (RATE, SCHEDULE) if letter in numbers}
    by_row = {letter: dict(zip(left.rows + 1, values, strict=True)) for letter, values in trained.items()}
    points = Observations(
        source=raw.name,
        sha256=raw.sha256,
        num_rows=raw.num_rows,
        roles={**roles.measured(), **roles.derived(), **({"cluster": roles.cluster} if roles.cluster else {})},
        row=left.rows + 1,
        columns={letter: values for letter, values in numbers.items() if letter != "loss"},
        loss=numbers["loss"],
        cluster=None if roles.cluster is None else _codes(raw, roles.cluster, left.rows),
        setting=repeats.setting,
        exclusions=tuple(left.exclusions),
    )
    if rules.drop_duplicates and repeats.duplicated.any():
        points = points.only(~repeats.duplicated, tuple(_duplicates(left.rows, repeats)))
    if rules.drop_highest:
        kept, highest_rows, tie = highest(points.loss, points.row, rules.drop_highest)
        points = points.only(kept, tuple(highest_rows))
        warnings += [tie] if tie else []
    kept_values = {letter: np.array([found[row] for row in points.row]) for letter, found in by_row.items()}
    return replace(points, warnings=(*warnings, *_flat(points), *_training(points, kept_values)))


@dataclass(kw_only=True)
class _Left:
    """The rows (from 0) that are still in, and those that are out."""

    raw: RawTable
    rows: IntArray
    exclusions: list[Exclusion] = field(default_factory=list)

    def out(self, exclusions: list[Exclusion]) -> None:
        """Leave these out, as far as they are still in. Raises TableError where none is left."""
        still, gone = self._mask(self.rows), self._mask([one.row - 1 for one in exclusions])
        self.exclusions += [one for one in exclusions if still[one.row - 1]]
        self.rows = self.rows[~gone[self.rows]]
        if len(self.rows) == 0:
            counts = Counter(one.rule for one in self.exclusions)
            by = ", ".join(f"{count} by '{rule}'" for rule, count in counts.items())
            raise TableError(f"{self.raw.name}: all {self.raw.num_rows} rows are left out ({by}); nothing is left")

    def _mask(self, rows: Sequence[int] | IntArray) -> BoolArray:
        mask = np.zeros(self.raw.num_rows, dtype=bool)
        mask[np.asarray(rows, dtype=np.int64)] = True
        return mask


def _numbers(left: _Left, roles: ColumnMap, rules: Filters) -> dict[str, FloatArray]:
    """Every number column by letter, for the rows that are left; rows with a wrong value leave or are refused."""
    raw, wrong = left.raw, dict[int, str]()
    numbers = {}
    for letter, column in roles.measured().items():
        numbers[letter], texts = raw.parsed(column, left.rows)
        for at, what in _wrong(numbers[letter], positive=letter in POSITIVE).items():
            row = int(left.rows[at])
            said = raw.not_a_number(texts[row]) if row in texts else what
            wrong.setdefault(row, f"column '{column}': {said}")
    if wrong and not rules.drop_invalid:
        first = min(wrong)
        more = f". {len(wrong) - 1} more rows have such values" if len(wrong) > 1 else ""
        raise TableError(
            f"{raw.name}, {raw.place(first)}, {wrong[first]}{more}. Mend the table, or leave such rows out"
            " (--drop-invalid)"
        )
    kept = np.array([row not in wrong for row in left.rows.tolist()]) if wrong else np.ones(len(left.rows), dtype=bool)
    left.out([Exclusion(row=row + 1, rule="drop-invalid", reason=wrong[row]) for row in sorted(wrong)])
    numbers = {letter: values[kept] for letter, values in numbers.items()}
    # C = 6 N D, six FLOPs a parameter and token (Kaplan et al. 2020).
    if roles.tokens_from_flops:
        numbers[TOKENS] = numbers[FLOPS] / (6 * numbers[PARAMS])
    if roles.flops_from_tokens:
        numbers[FLOPS] = 6 * numbers[PARAMS] * numbers[TOKENS]
    return numbers


def _wrong(values: FloatArray, *, positive: bool) -> dict[int, str]:
    """What is wrong with each value that no law can be fitted to, by index."""
    bad = ~np.isfinite(values) | (values <= 0 if positive else np.zeros(len(values), dtype=bool))
    said = {}
    for at in np.flatnonzero(bad):
        value = values[at]
        if np.isnan(value):
            said[int(at)] = "it has no value"
        elif np.isinf(value):
            said[int(at)] = "it is infinite"
        else:
            said[int(at)] = f"it is {value:g}; it must be above zero"
    return said


def _codes(raw: RawTable, column: str | None, rows: IntArray) -> IntArray:
    """A number for each different text of a column."""
    assert column is not None
    words: IntArray = np.unique(np.array(raw.text(column))[rows], return_inverse=True)[1].astype(np.int64)
    return words


def _duplicates(rows: IntArray, repeats: Repeats) -> list[Exclusion]:
    return [
        Exclusion(
            row=int(rows[at]) + 1,
            rule="drop-duplicates",
            reason=f"it agrees with row {int(rows[repeats.duplicate_of[at]]) + 1} in every column that is used",
        )
        for at in np.flatnonzero(repeats.duplicated)
    ]


def _said(rows: IntArray, repeats: Repeats) -> list[str]:
    """Warnings of rows that stand twice."""
    said = []
    twice = [int(row) + 1 for row in rows[repeats.duplicated]]
    if twice:
        first = int(rows[repeats.duplicate_of[np.flatnonzero(repeats.duplicated)[0]]]) + 1
        said.append(
            f"{listed(twice)} agree with an earlier row in every column that is used, the loss among them (row"
            f" {twice[0]} with row {first}): runs that stand twice make intervals too narrow (--drop-duplicates)"
        )
    seeds = [int(row) + 1 for row in rows[repeats.same_seed >= 0]]
    if seeds:
        said.append(f"{listed(seeds)} have the columns and the seed of an earlier row, but another loss")
    return said


def _training(points: Observations, values: Mapping[str, FloatArray]) -> list[str]:
    """Warnings of how the runs were trained, as far as the table has columns for it."""
    said = []
    if RATE in values:
        setting = numbered(list(points.columns.values()), len(points))
        said += rates_at_the_edge(values[RATE], points.loss, setting, points.row)
    if SCHEDULE in values:
        said += unfinished_schedules(points.columns[TOKENS], values[SCHEDULE], points.row)
    return said


def _flat(points: Observations) -> list[str]:
    """Warnings of columns that do not vary: a law cannot say how the loss changes with them."""
    if len(points) < 2:
        return []
    said = [
        f"every point has the same {WORDS.get(letter, letter)} ({letter} = {values[0]:.3g}): how the loss changes with"
        f" {letter} cannot be told"
        for letter, values in points.columns.items()
        if np.ptp(values) == 0
    ]
    if np.ptp(points.loss) == 0:
        said.append(f"every point has the same loss ({points.loss[0]:.3g})")
    return said
