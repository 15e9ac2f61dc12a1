"""Loss against model size at each number of FLOPs: the points of an isoFLOP sweep, and where the lowest lies.

Says which size tried is lowest, which others cannot be told from it, and whether it lies at the edge, where the best
may lie outside. Fits no parabola: the optimum between sizes, and its law (Hoffmann et al. 2022, approach 2), are not
estimated here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.gains.measures import Measure
from analysis.gains.run_noise import noise_of
from analysis.inference.replicate_noise import Noise
from analysis.interval import ConfidenceInterval
from analysis.tables.runs import Budget, Runs

SIZES = (("params_active", "active parameters"), ("params_total", "parameters"))
"""Columns that size a model, the preferred one first: a table's slots that no token reads cost no FLOPs."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """One model size at one number of FLOPs."""

    budget: Budget
    params: float
    loss: float
    """Mean over seeds, nats per token."""
    interval: ConfidenceInterval | None
    num_seeds: int


@dataclass(frozen=True, kw_only=True)
class IsoFlop:
    """One series at one number of FLOPs."""

    series: str
    flops: float
    sizes: tuple[Size, ...]
    """By increasing parameters."""
    lowest: int
    """Index of the size with the lowest mean loss."""
    near: tuple[int, ...]
    """Indices of the others whose difference from it has an interval that holds zero; empty without intervals."""

    @property
    def best(self) -> Size:
        return self.sizes[self.lowest]

    @property
    def edge(self) -> str:
        """'smallest' or 'largest' where the lowest loss lies at that end of the sizes, else ''."""
        return {0: "smallest", len(self.sizes) - 1: "largest"}.get(self.lowest, "")


@dataclass(frozen=True, kw_only=True)
class IsoFlops:
    """Every series and number of FLOPs with several model sizes."""

    column: str
    words: str
    """What sizes a model."""
    curves: tuple[IsoFlop, ...]

    def of(self, series: str) -> tuple[IsoFlop, ...]:
        return tuple(curve for curve in self.curves if curve.series == series)

    @property
    def series(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(curve.series for curve in self.curves))


def isoflops(runs: Runs, loss: Measure) -> IsoFlops | None:
    """None where no series has two sizes at one number of FLOPs, or nothing in the table sizes a model."""
    column, words = next(((name, words) for name, words in SIZES if runs.has(name)), ("", ""))
    if not column:
        return None
    model, _ = noise_of(runs, loss)
    noise = None if model is None else model.pooled
    curves = tuple(
        _curve(runs, label, flops, column, loss.column, noise)
        for label in runs.labels
        for flops in runs.flops_budgets(label)
        if sum(budget.flops == flops for budget in runs.budgets(label)) > 1
    )
    return IsoFlops(column=column, words=words, curves=curves) if curves else None


def _curve(runs: Runs, series: str, flops: float, column: str, loss: str, noise: Noise | None) -> IsoFlop:
    sizes = []
    for budget in runs.budgets(series):
        if budget.flops != flops:
            continue
        mask = runs.of(series, budget)
        mean, num_seeds = float(runs.number(loss)[mask].mean()), int(mask.sum())
        sizes.append(
            Size(
                budget=budget,
                params=float(runs.number(column)[mask].mean()),
                loss=mean,
                interval=None if noise is None else noise.interval(mean, 1 / num_seeds),
                num_seeds=num_seeds,
            )
        )
    sizes.sort(key=lambda size: size.params)
    lowest = int(np.argmin([size.loss for size in sizes]))
    best = sizes[lowest]
    near = [
        index
        for index, size in enumerate(sizes)
        if index != lowest
        and noise is not None
        and not noise.interval(size.loss - best.loss, 1 / size.num_seeds + 1 / best.num_seeds).excludes_zero
    ]
    return IsoFlop(series=series, flops=flops, sizes=tuple(sizes), lowest=lowest, near=tuple(near))
