"""The learning rate of each family's compared runs, and whether it lies at the edge of the rates tried.

A family is an entry of the sweep file; its series share the rates that were tuned for one series. Everything is derived
from the rows. A rate is at the edge if it is the smallest or the largest tried; a diverged run counts as tried, so the
best rate just below a rate that diverged is not at the edge. An edge is reported and changes no result: the family
might reach a lower loss at a rate outside the range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.tables.results import Results
from analysis.tables.runs import BoolArray, Runs, family_name

SAME_RATE = 1e-6
"""Rates that differ by less than this relative amount are the same."""


@dataclass(frozen=True, kw_only=True)
class TuningRun:
    """A tuning run."""

    learning_rate: float
    table_factor: float | None
    """Rate of the table as a multiple of the learning rate; None for families without a table."""
    budget_flops: float
    d_model: float | None
    """Rates are scaled with the width; None where the table lacks it."""
    loss: float | None
    """Nats per token; None where it diverged."""


@dataclass(frozen=True, kw_only=True)
class LearningRateChoice:
    """The learning rate of a family, and the tuning runs it was chosen from."""

    family: str
    """Its name in the sweep."""
    series: str
    """The first series of the family; figures draw the family in its style."""
    learning_rate: float | None
    """The rate of the compared runs; None where the table lacks it."""
    table_factor: float | None
    tuning_runs: tuple[TuningRun, ...]
    best: TuningRun | None
    edges: tuple[str, ...]
    """The rates at an edge and which edge, such as 'table rate at the highest tried'."""
    note: str

    @property
    def diverged(self) -> int:
        """How many of the rates that were tried diverged."""
        return sum(tried.loss is None for tried in self.tuning_runs)


def learning_rate_choices(results: Results) -> tuple[LearningRateChoice, ...]:
    """The choice of every compared family, in the order of the table."""
    names = dict.fromkeys(family_name(label) for label in results.compare.labels)
    return tuple(_family(results, name) for name in names)


def _family(results: Results, family: str) -> LearningRateChoice:
    compared = _tried(results.compare, family)
    tried = tuple(sorted(_tried(results.tune, family), key=lambda one: (one.learning_rate, one.table_factor or 0.0)))
    finite = [(one.loss, index) for index, one in enumerate(tried) if one.loss is not None]
    best = tried[min(finite)[1]] if finite else None
    widths = {one.d_model for one in tried}
    used = min(compared, key=lambda one: (one.d_model not in widths, one.budget_flops)) if compared else None
    notes = []
    if not tried:
        notes.append("no tuning runs in the table")
    elif used is not None and best is not None and not _same(used, best):
        notes.append("not the rate with the lowest tuning loss")
    if used is not None and not all(_same(used, one) for one in compared):
        same_width = all(_same(used, one) for one in compared if one.d_model == used.d_model)
        notes.append("scaled at other widths" if same_width and used.d_model else "other rates at other budgets")
    return LearningRateChoice(
        family=family,
        series=next(label for label in results.compare.labels if family_name(label) == family),
        learning_rate=used.learning_rate if used else None,
        table_factor=used.table_factor if used else None,
        tuning_runs=tried,
        best=best,
        edges=_edges(used, tried) if used else (),
        note="; ".join(notes),
    )


def _tried(runs: Runs, family: str) -> list[TuningRun]:
    if "learning_rate" not in runs.numbers:
        return []
    rates, losses = runs.number("learning_rate"), runs.number("loss_nats")
    unknown = np.full(len(runs), np.nan)
    tables, widths = (runs.numbers.get(column, unknown) for column in ("table_learning_rate", "d_model"))
    return [
        TuningRun(
            learning_rate=float(rates[run]),
            table_factor=float(tables[run] / rates[run]) if np.isfinite(tables[run]) else None,
            budget_flops=float(runs.budget_flops[run]),
            d_model=float(widths[run]) if np.isfinite(widths[run]) else None,
            loss=float(losses[run]) if np.isfinite(losses[run]) else None,
        )
        for run in np.flatnonzero(_named(runs, family) & np.isfinite(rates))
    ]


def _named(runs: Runs, family: str) -> BoolArray:
    return np.array([family_name(label) == family for label in runs.series], dtype=bool)


def _same(one: TuningRun, other: TuningRun) -> bool:
    rates = bool(np.isclose(one.learning_rate, other.learning_rate, rtol=SAME_RATE, atol=0))
    return rates and bool(np.isclose(one.table_factor or 0.0, other.table_factor or 0.0, rtol=SAME_RATE, atol=0))


def _edges(used: TuningRun, tried: tuple[TuningRun, ...]) -> tuple[str, ...]:
    edges = []
    kinds = [("learning rate", used.learning_rate, [one.learning_rate for one in tried])]
    if used.table_factor is not None:
        factors = [one.table_factor for one in tried if one.table_factor is not None]
        kinds.append(("table rate", used.table_factor, factors))
    for words, value, values in kinds:
        if not values or max(values) <= min(values) * (1 + SAME_RATE):
            continue
        for end, edge in (("lowest", min(values)), ("highest", max(values))):
            if np.isclose(value, edge, rtol=SAME_RATE, atol=0):
                edges.append(f"{words} at the {end} tried")
    return tuple(edges)
