"""What was tuned: the learning rate each family was compared at, and whether it lay at the edge of its sweep.

Derived from the rows themselves. A rate lies at the edge where it is the smallest or the largest that was tried;
a diverged run counts as tried, so a best rate just below a diverging one does not. Decides nothing: an edge is said,
because a family tuned at its edge may be better than it looks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.table import Results, Runs

SAME_RATE = 1e-6
"""Two rates are one where they differ by less, relative."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One tuning run."""

    learning_rate: float
    table_factor: float | None
    """Rate of the table as a multiple of the learning rate; None for families without a table."""
    budget_flops: float
    loss: float | None
    """Nats per token; None where it diverged."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A family's choice and the sweep it was chosen from."""

    family: str
    learning_rate: float | None
    """The rate of the compared runs; None where the table does not say."""
    table_factor: float | None
    tried: tuple[Tried, ...]
    best: Tried | None
    edges: tuple[str, ...]
    """Which of 'learning rate' and 'table rate' lie at the edge of what was tried, and at which end."""
    note: str

    @property
    def diverged(self) -> int:
        return sum(tried.loss is None for tried in self.tried)


def tuned(results: Results) -> tuple[Tuned, ...]:
    """The choice of every compared family, in the order of the table."""
    return tuple(_family(results, family) for family in results.compare.families)


def _family(results: Results, family: str) -> Tuned:
    compared = _tried(results.compare, family)
    tried = tuple(sorted(_tried(results.tune, family), key=lambda one: (one.learning_rate, one.table_factor or 0.0)))
    finite = [(one.loss, index) for index, one in enumerate(tried) if one.loss is not None]
    best = tried[min(finite)[1]] if finite else None
    used = sorted(compared, key=lambda one: one.budget_flops)[0] if compared else None
    notes = []
    if not tried:
        notes.append("no tuning runs in the table")
    elif used is not None and best is not None and not _same(used, best):
        notes.append("not the rate with the lowest tuning loss")
    if any(used is not None and not _same(used, one) for one in compared):
        notes.append("other rates at other budgets")
    return Tuned(
        family=family,
        learning_rate=used.learning_rate if used else None,
        table_factor=used.table_factor if used else None,
        tried=tried,
        best=best,
        edges=_edges(used, tried) if used else (),
        note="; ".join(notes),
    )


def _tried(runs: Runs, family: str) -> list[Tried]:
    if "learning_rate" not in runs.numbers:
        return []
    rates, losses = runs.number("learning_rate"), runs.number("loss_nats")
    tables = runs.numbers.get("table_learning_rate", np.full(len(runs), np.nan))
    return [
        Tried(
            learning_rate=float(rates[run]),
            table_factor=float(tables[run] / rates[run]) if np.isfinite(tables[run]) else None,
            budget_flops=float(runs.budget_flops[run]),
            loss=float(losses[run]) if np.isfinite(losses[run]) else None,
        )
        for run in np.flatnonzero(runs.of(family) & np.isfinite(rates))
    ]


def _same(one: Tried, other: Tried) -> bool:
    rates = bool(np.isclose(one.learning_rate, other.learning_rate, rtol=SAME_RATE, atol=0))
    return rates and bool(np.isclose(one.table_factor or 0.0, other.table_factor or 0.0, rtol=SAME_RATE, atol=0))


def _edges(used: Tried, tried: tuple[Tried, ...]) -> tuple[str, ...]:
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
