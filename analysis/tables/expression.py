"""The condition of --where: comparisons of columns with numbers and words, joined by and, or, not.

    loss < 4 and `Model Size` >= 1e8
    dataset == 'c4' or width in (64, 128)
    not outlier

Names are columns (in backquotes where they hold blanks or other marks). Everything that could do more than compute
with columns is refused: calls, attributes, indices, comprehensions. A comparison of numbers with a row that has no
value is false; so is its negation with `not`, as in SQL, so that an empty value never lets a row in. Compared with a
word, every text is a word: an empty cell is '', and NA is the word 'NA'.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.errors import TableError
from analysis.tables.cells import EMPTY, not_a_number, parsed, place, source, text
from analysis.tables.suggestion import suggestion

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LONGEST = 2000
DEEPEST = 100
"""Levels of nesting of a condition, which is evaluated by recursion."""
TRUE, FALSE = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")
QUOTED = "\u0298"
"""Replaces a column in backquotes, followed by its number: a letter that few names of columns start with."""

ARITHMETIC = {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.Pow: np.power,
              ast.Mod: np.mod}  # fmt: skip
ORDER = {ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal}


@dataclass(frozen=True, kw_only=True)
class _Truth:
    """Whether each row meets a condition, and whether that is known."""

    holds: BoolArray
    known: BoolArray


@dataclass(frozen=True, kw_only=True)
class _Column:
    name: str


_Value = _Column | FloatArray | str | bool
"""A whole column, numbers (one or one a row), a word, or True and False."""


@dataclass(frozen=True, kw_only=True)
class Where:
    """A condition, parsed. Make it with `parse`."""

    text: str
    tree: ast.expr
    quoted: tuple[str, ...]

    def column(self, name: str) -> str:
        """The column that a name of the tree refers to."""
        number = name.removeprefix(QUOTED)
        is_quoted = name != number and number.isdecimal() and int(number) < len(self.quoted)
        return self.quoted[int(number)] if is_quoted else name

    @property
    def columns(self) -> frozenset[str]:
        """Every column that the condition names."""
        return frozenset(self.column(node.id) for node in ast.walk(self.tree) if isinstance(node, ast.Name))

    @property
    def as_written(self) -> frozenset[str]:
        """Columns compared with a word that means no value among numbers, such as 'NA'; a file's are read as text."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Compare):
                parts = [
                    part for side in (node.left, *node.comparators) for part in (side, *ast.iter_child_nodes(side))
                ]
                words = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
                if any(word.strip() and word.strip().lower() in EMPTY for word in words):
                    found |= {self.column(part.id) for part in parts if isinstance(part, ast.Name)}
        return frozenset(found)

    def holds(self, table: pd.DataFrame, rows: IntArray) -> BoolArray:
        """Which of the rows at these positions (from 0) meet the condition. Raises TableError."""
        with np.errstate(all="ignore"):  # what is no number compares as false
            truth = _Evaluation(where=self, table=table.iloc[rows]).truth(self.tree)
        return truth.holds & truth.known


def parse(text: str) -> Where:
    """Raises TableError where the text is no condition of the allowed kind."""
    if len(text) > LONGEST:
        raise TableError(f"--where has {len(text)} characters; at most {LONGEST} are read")
    quoted: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        quoted.append(match[1])
        return f" {QUOTED}{len(quoted) - 1} "

    try:
        tree = ast.parse(re.sub(r"`([^`]+)`", replaced, text).strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise TableError(
            f'--where "{text}" cannot be read: {reason}. Write a condition such as "loss < 4 and `Model Size` > 1e8"'
        ) from None
    if _is_deeper(tree, DEEPEST):
        raise TableError(f'--where "{text[:100]}..." is nested more than {DEEPEST} levels deep; write it flatter')
    return Where(text=text, tree=tree.body, quoted=tuple(quoted))


def _is_deeper(tree: ast.AST, levels: int) -> bool:
    """Whether a tree has more levels; it is walked level by level, as what recurses would not end well."""
    level = [tree]
    for _ in range(levels):
        level = [inner for node in level for inner in ast.iter_child_nodes(node)]
    return bool(level)


@dataclass(frozen=True, kw_only=True)
class _Evaluation:
    where: Where
    table: pd.DataFrame

    def refuse(self, what: str) -> TableError:
        return TableError(f'--where "{self.where.text}": {what}')

    def truth(self, node: ast.expr) -> _Truth:
        """A node where a condition is needed."""
        if isinstance(node, ast.BoolOp):
            return self._joined([self.truth(one) for one in node.values], isinstance(node.op, ast.And))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
            return self._joined([self.truth(node.left), self.truth(node.right)], isinstance(node.op, ast.BitAnd))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
            inner = self.truth(node.operand)
            return _Truth(holds=~inner.holds, known=inner.known)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            return self._joined(
                [self._compared(*one) for one in zip(sides, node.ops, sides[1:], strict=False)], every=True
            )
        if isinstance(node, ast.Name):
            return self._equal(self.value(node), True)
        raise self.refuse(f"'{ast.unparse(node)}' is no condition; compare it with something, as in loss < 4")

    def value(self, node: ast.expr) -> _Value:
        """A node where a value is needed."""
        if isinstance(node, ast.Name):
            return _Column(name=self._name(node.id))
        if isinstance(node, ast.Constant) and isinstance(node.value, bool | str):
            return node.value
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return np.array(_float(node.value))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            inner = self.numbers(self.value(node.operand))
            return -inner if isinstance(node.op, ast.USub) else inner
        if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            left, right = self.numbers(self.value(node.left)), self.numbers(self.value(node.right))
            result: FloatArray = ARITHMETIC[type(node.op)](left, right)
            return result
        raise self.refuse(
            f"'{ast.unparse(node)}' is not allowed; columns, numbers, words in quotes, + - * / ** %, comparisons,"
            " in, and, or, not are"
        )

    def numbers(self, value: _Value) -> FloatArray:
        """A value as numbers. Raises TableError with the row of the first text."""
        if isinstance(value, _Column):
            numbers, is_text = parsed(self.table, value.name)
            for at in np.flatnonzero(is_text):
                raise self.refuse(str(not_a_number(self.table, int(at), value.name)))
            return numbers
        if isinstance(value, str | bool):
            raise self.refuse(f"'{value}' is no number and cannot be computed with")
        return value

    def _name(self, name: str) -> str:
        name = self.where.column(name)
        if name not in self.table.columns:
            raise self.refuse(f"there is no column '{name}'.{suggestion(name, list(self.table.columns))}")
        return name

    def _joined(self, parts: Sequence[_Truth], every: bool) -> _Truth:
        """Three-valued and, or: known where the known parts decide."""
        decides = [part.known & (part.holds != every) for part in parts]
        decided = np.logical_or.reduce(decides)
        known = decided | np.logical_and.reduce([part.known for part in parts])
        return _Truth(holds=~decided if every else decided, known=known)

    def _compared(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> _Truth:
        if isinstance(operator, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
                raise self.refuse(f"'in' needs a list of values, as in width in (64, 128); given {ast.unparse(right)}")
            value = self.value(left)
            found = self._joined([self._equal(value, self.value(one)) for one in right.elts], every=False)
            return found if isinstance(operator, ast.In) else _Truth(holds=~found.holds, known=found.known)
        one, other = self.value(left), self.value(right)
        if isinstance(operator, ast.Eq | ast.NotEq):
            found = self._equal(one, other)
            return found if isinstance(operator, ast.Eq) else _Truth(holds=~found.holds, known=found.known)
        if type(operator) in ORDER:
            x, y = np.broadcast_arrays(self.numbers(one), self.numbers(other))
            return self._every_row(ORDER[type(operator)](x, y), ~(np.isnan(x) | np.isnan(y)))
        raise self.refuse("'is' is not allowed; compare with == or !=")

    def _equal(self, one: _Value, other: _Value) -> _Truth:
        """Equality of words where one side is a word, of truth where one is True or False, else of numbers."""
        for value, against in ((one, other), (other, one)):
            if isinstance(against, str | bool):
                if not isinstance(value, _Column):
                    raise self.refuse(f"'{against}' can only be compared with a column")
                words = text(self.table[value.name])
                return self._words(words, against) if isinstance(against, str) else self._truths(value, words, against)
        x, y = np.broadcast_arrays(self.numbers(one), self.numbers(other))
        return self._every_row(x == y, ~(np.isnan(x) | np.isnan(y)))

    def _words(self, words: npt.NDArray[np.object_], wanted: str) -> _Truth:
        # An empty text is a value of its own: name != '' is a sensible question.
        return self._every_row((words == wanted).astype(bool), np.ones(len(words), dtype=bool))

    def _truths(self, column: _Column, words: npt.NDArray[np.object_], wanted: bool) -> _Truth:
        lower = np.array([str(word).lower() for word in words], dtype=object)
        true, false, empty = (np.isin(lower, list(choice)) for choice in (TRUE, FALSE, tuple(EMPTY)))
        for at in np.flatnonzero(~(true | false | empty)):
            where = f"{source(self.table)}, {place(self.table, int(at))}, column '{column.name}'"
            raise self.refuse(f"{where}: '{words[at]}' is neither true nor false")
        return self._every_row(true if wanted else false, ~empty)

    def _every_row(self, holds: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]) -> _Truth:
        shape = (len(self.table),)
        return _Truth(holds=np.broadcast_to(holds, shape), known=np.broadcast_to(known, shape))


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf")
