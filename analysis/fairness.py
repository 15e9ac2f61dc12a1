"""Was the comparison fair: how far the families of one budget differ in what the sweep holds equal.

Training FLOPs and tokens among all families; total parameters among the sparse ones (a dense model has fewer by
design). A gap is (largest - smallest) / smallest. Reports; decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.table import Runs

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
    budget_flops: float
    smallest: str
    largest: str


def gaps(runs: Runs) -> tuple[Gap, ...]:
    """The worst gap of every quantity the table holds; nothing where only one family is compared."""
    found = []
    for column, words, dense_too in HELD_EQUAL:
        if not runs.has(column):
            continue
        families = [family for family in runs.families if dense_too or family != "dense"]
        worst: Gap | None = None
        for budget in runs.budgets():
            means = {
                family: float(np.mean(runs.number(column)[runs.of(family, budget)]))
                for family in families
                if runs.of(family, budget).any()
            }
            if len(means) < 2:
                continue
            low, high = min(means, key=lambda name: means[name]), max(means, key=lambda name: means[name])
            gap = means[high] / means[low] - 1
            if worst is None or gap > worst.gap:
                worst = Gap(
                    words=words,
                    among="all families" if dense_too else "sparse families",
                    gap=gap,
                    budget_flops=budget,
                    smallest=low,
                    largest=high,
                )
        if worst is not None:
            found.append(worst)
    return tuple(found)
