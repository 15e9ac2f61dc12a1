"""Which cells of families x budgets x seeds x settings are trained: a union of blocks.

Each block is the product of some axes, and of a group of axes whose values are paired (`zip`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from memscale.config.checks import require
from memscale.config.ranges import ANY_NUMBER, LINE, Checked
from memscale.errors import shown


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


@dataclass(frozen=True, kw_only=True)
class Axis(Checked):
    """The values of one key; in YAML `key: [values]`. The key is `budget` (by name), `seed`, or a key of the family."""

    key: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.values) > 0, f"{self.key} is empty; name at least one value")
        for value in _leaves(self.values):
            require(not isinstance(value, Mapping), f"{self.key} has the value {shown(value)}; it needs plain values")
            rule = LINE if isinstance(value, str) else ANY_NUMBER
            problem = rule.problem(value) if isinstance(value, str | int | float) else None
            require(problem is None, f"{self.key}: a value {problem}")
        plain = [repr(value) for value in self.values]
        require(len(set(plain)) == len(plain), f"{self.key} {list(self.values)} names a value twice")


@dataclass(frozen=True, kw_only=True)
class Block(Checked):
    """Every combination of the axes of `product`, with the axes of `zip` paired like Python's zip."""

    families: tuple[str, ...]
    """Names of entries of `families`; every axis other than `budget` and `seed` must be a key of each."""
    product: tuple[Axis, ...] = ()
    zip: tuple[Axis, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.families) > 0, "families is empty; name at least one")
        keys = [axis.key for axis in (*self.product, *self.zip)]
        require(len(set(keys)) == len(keys), f"the axes {keys} name a key twice")
        lengths = {axis.key: len(axis.values) for axis in self.zip}
        require(len(set(lengths.values())) <= 1, f"zip needs axes of one length; given were {lengths}")
