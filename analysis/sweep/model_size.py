"""Loss against model size at each number of FLOPs: the sizes of an isoFLOP sweep, and the optimum between them.

`analysis.allocation` computes the optimum and its power laws, as it does for `analysis.isoflop` and the verb `isoflop`,
so that a table always gives the same optimum. In addition, of the sizes trained: the size with the lowest loss, the
sizes whose loss does not differ from it significantly, and whether it is the smallest or largest, in which case the
optimum may lie outside the sizes trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.allocation.from_table import runs_of
from analysis.allocation.frontier import IsoFlopMinimum
from analysis.allocation.isoflop import IsoFlopFrontier, frontier_through
from analysis.allocation.minima import SAME_BUDGET, IsoFlopMinima, isoflop_minima
from analysis.errors import AnalysisError, FitError
from analysis.gains.measures import Measure
from analysis.gains.run_noise import noise_of
from analysis.inference.replicate_noise import Noise
from analysis.interval import LEVEL, ConfidenceInterval
from analysis.tables.from_results import observe_results
from analysis.tables.results import Results
from analysis.tables.runs import Budget, Runs

SIZES = (("params_active", "active parameters"), ("params_total", "parameters"))
"""Columns for the size of a model, in order of preference: slots that a token does not read cost no FLOPs."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """The mean loss of a model size at a number of FLOPs."""

    budget: Budget
    params: float
    loss: float
    """Mean over seeds, nats per token."""
    interval: ConfidenceInterval | None
    num_seeds: int


@dataclass(frozen=True, kw_only=True)
class IsoFlop:
    """The model sizes of a series at a number of FLOPs."""

    series: str
    flops: float
    sizes: tuple[Size, ...]
    """By increasing parameters."""
    lowest: int
    """Index of the size with the lowest mean loss."""
    near: tuple[int, ...]
    """Sizes whose difference in loss from it is not significant (its interval holds zero); empty without intervals."""
    optimum: IsoFlopMinimum | None
    """The minimum of the curve through the sizes; None where the table lacks a column that it needs."""

    @property
    def best(self) -> Size:
        """The size with the lowest mean loss."""
        return self.sizes[self.lowest]

    @property
    def edge(self) -> str:
        """'smallest' or 'largest' where the lowest loss lies at that end of the sizes, else ''."""
        return {0: "smallest", len(self.sizes) - 1: "largest"}.get(self.lowest, "")


@dataclass(frozen=True, kw_only=True)
class IsoFlops:
    """All series and numbers of FLOPs with several model sizes."""

    column: str
    words: str
    """The column in words."""
    curves: tuple[IsoFlop, ...]
    frontiers: dict[str, IsoFlopFrontier]
    """N*(C) and D*(C) by series, for series with a minimum at two or more budgets."""
    no_frontier: dict[str, str]
    """The reason, by series without a frontier."""

    def of(self, series: str) -> tuple[IsoFlop, ...]:
        """The curves of a series, by number of FLOPs."""
        return tuple(curve for curve in self.curves if curve.series == series)

    @property
    def series(self) -> tuple[str, ...]:
        """The series that have a curve, in the order of the table."""
        return tuple(dict.fromkeys(curve.series for curve in self.curves))


def isoflops(results: Results, loss: Measure, *, level: float = LEVEL) -> IsoFlops | None:
    """The isoFLOP curves; None if no series has two sizes at equal FLOPs, or if the table has no column of `SIZES`."""
    runs = results.compare
    column, words = next(((name, words) for name, words in SIZES if runs.has(name)), ("", ""))
    if not column:
        return None
    model, _ = noise_of(runs, loss, level=level)
    noise = None if model is None else model.pooled
    curves: list[IsoFlop] = []
    frontiers: dict[str, IsoFlopFrontier] = {}
    missing: dict[str, str] = {}
    for label in runs.labels:
        budgets = [
            flops
            for flops in runs.flops_budgets(label)
            if sum(budget.flops == flops for budget in runs.budgets(label)) > 1
        ]
        if not budgets:
            continue
        found = None
        try:
            found = _minima(results, label, column, loss.column)
            frontiers[label] = frontier_through(found)
        except FitError as error:
            missing[label] = str(error)
        curves += [_curve(runs, label, flops, column, loss.column, noise, found) for flops in budgets]
    if not curves:
        return None
    return IsoFlops(column=column, words=words, curves=tuple(curves), frontiers=frontiers, no_frontier=missing)


def _minima(results: Results, series: str, column: str, loss: str) -> IsoFlopMinima:
    """The minima of a series. Raises FitError if the table has too few runs or lacks a column."""
    try:
        runs = runs_of(observe_results(results, series=series, params=column, loss=loss))
    except AnalysisError as error:
        raise FitError(str(error)) from None
    return isoflop_minima(runs.params, runs.tokens, runs.flops, runs.loss)


def _optimum(found: IsoFlopMinima | None, flops: float) -> IsoFlopMinimum | None:
    """The minimum at this number of FLOPs, if there is one."""
    minima = () if found is None else found.minima
    near = [one for one in minima if abs(np.log(one.flops / flops)) < SAME_BUDGET]
    return near[0] if near else None


def _curve(
    runs: Runs, series: str, flops: float, column: str, loss: str, noise: Noise | None, found: IsoFlopMinima | None
) -> IsoFlop:
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
    return IsoFlop(
        series=series, flops=flops, sizes=tuple(sizes), lowest=lowest, near=tuple(near), optimum=_optimum(found, flops)
    )
