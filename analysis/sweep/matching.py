"""How well the compared models are matched: by how much the series of one budget differ in what the sweep holds equal.

Training FLOPs and tokens among all series; total parameters among the reference series of the sparse families (a dense
model has fewer by design, a looped one fewer still, and where a family's size is varied its other series have more or
fewer by design).
A mismatch is (largest - smallest) / smallest. It is reported and changes no result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.tables.runs import Budget, Runs

TOLERANCE = 0.01
"""The report's limitations list a mismatch above this."""
QUANTITIES = (
    ("flops_train", "training FLOPs", True),
    ("tokens", "tokens", True),
    ("params_total", "total parameters", False),
)


WITHOUT_SIZE = ("dense", "looped")
"""Families that hold no number of parameters in common with the sparse ones."""


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """The largest mismatch of one quantity inside a budget."""

    words: str
    among: str
    value: float
    budget: Budget
    smallest: str
    largest: str


def mismatches(runs: Runs) -> tuple[Mismatch, ...]:
    """The largest mismatch of every quantity the table holds; empty where only one series is compared."""
    sparse = [runs.reference(family) for family in runs.families if family not in WITHOUT_SIZE]
    found = []
    for column, words, dense_too in QUANTITIES:
        if not runs.has(column):
            continue
        among = "all series" if dense_too else "sparse families"
        worst = [_mismatch(runs, column, budget, runs.labels if dense_too else sparse) for budget in runs.budgets()]
        largest = max((one for one in worst if one is not None), key=lambda one: one[0], default=None)
        if largest is not None:
            value, budget, low, high = largest
            found.append(Mismatch(words=words, among=among, value=value, budget=budget, smallest=low, largest=high))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class HeldEqual:
    """What is equal among some series that are compared."""

    words: str
    """'at equal training compute', 'at equal tokens' or 'at the same budgets'."""
    flops_mismatch: float
    """The largest mismatch in training FLOPs at one budget."""


def held_equal(runs: Runs, pairs: Sequence[tuple[str, str]]) -> HeldEqual:
    """What the series of every pair share at each budget they have in common, to `TOLERANCE`."""
    off = {}
    for column in ("flops_train", "tokens"):
        cells = [(pair, budget) for pair in pairs for budget in runs.budgets()] if runs.has(column) else []
        found = [_mismatch(runs, column, budget, pair) for pair, budget in cells]
        off[column] = max((one[0] for one in found if one is not None), default=1.0)
    words = "at the same budgets"
    for column, shared in (("tokens", "at equal tokens"), ("flops_train", "at equal training compute")):
        if off[column] <= TOLERANCE:
            words = shared
    return HeldEqual(words=words, flops_mismatch=off["flops_train"])


def _mismatch(runs: Runs, column: str, budget: Budget, labels: Sequence[str]) -> tuple[float, Budget, str, str] | None:
    """The mismatch at one budget, and the series with the least and the most; None where fewer than two are there."""
    cells = {label: runs.of(label, budget) for label in labels}
    means = {label: float(np.mean(runs.number(column)[cell])) for label, cell in cells.items() if cell.any()}
    if len(means) < 2:
        return None
    low, high = min(means, key=lambda label: means[label]), max(means, key=lambda label: means[label])
    return means[high] / means[low] - 1, budget, low, high
