"""Was the comparison fair: how far the series of one budget differ in what the sweep holds equal.

Training FLOPs and tokens among all series; total parameters among the reference series of the sparse families (a dense
model has fewer by design, and where a family's size is varied its other series have more or fewer by design). A gap is
(largest - smallest) / smallest. Reports; decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.tables.runs import Budget, Runs

TOLERANCE = 0.01
"""A gap above this is said in the report's limits."""
HELD_EQUAL = (
    ("flops_train", "training FLOPs", True),
    ("tokens", "tokens", True),
    ("params_total", "total parameters", False),
)


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The worst mismatch of one quantity inside a budget."""

    words: str
    among: str
    gap: float
    budget: Budget
    smallest: str
    largest: str


def gaps(runs: Runs) -> tuple[Gap, ...]:
    """The worst gap of every quantity the table holds; nothing where only one series is compared."""
    sparse = [runs.reference(family) for family in runs.families if family != "dense"]
    found = []
    for column, words, dense_too in HELD_EQUAL:
        if not runs.has(column):
            continue
        among = "all series" if dense_too else "sparse families"
        worst = [_gap(runs, column, budget, runs.labels if dense_too else sparse) for budget in runs.budgets()]
        largest = max((one for one in worst if one is not None), key=lambda one: one[0], default=None)
        if largest is not None:
            gap, budget, low, high = largest
            found.append(Gap(words=words, among=among, gap=gap, budget=budget, smallest=low, largest=high))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """On which terms some series are compared."""

    words: str
    """'at equal training compute', 'at equal tokens' or 'at the same budgets'."""
    off: float
    """The largest gap in training FLOPs at one budget."""


def terms(runs: Runs, pairs: Sequence[tuple[str, str]]) -> Terms:
    """What the series of every pair share at each budget they have in common, to `TOLERANCE`."""
    off = {}
    for column in ("flops_train", "tokens"):
        cells = [(pair, budget) for pair in pairs for budget in runs.budgets()] if runs.has(column) else []
        found = [_gap(runs, column, budget, pair) for pair, budget in cells]
        off[column] = max((one[0] for one in found if one is not None), default=1.0)
    words = "at the same budgets"
    for column, shared in (("tokens", "at equal tokens"), ("flops_train", "at equal training compute")):
        if off[column] <= TOLERANCE:
            words = shared
    return Terms(words=words, off=off["flops_train"])


def _gap(runs: Runs, column: str, budget: Budget, labels: Sequence[str]) -> tuple[float, Budget, str, str] | None:
    """The gap at one budget, and the series with the least and the most; None where fewer than two are there."""
    cells = {label: runs.of(label, budget) for label in labels}
    means = {label: float(np.mean(runs.number(column)[cell])) for label, cell in cells.items() if cell.any()}
    if len(means) < 2:
        return None
    low, high = min(means, key=lambda label: means[label]), max(means, key=lambda label: means[label])
    return means[high] / means[low] - 1, budget, low, high
