"""The learning rate of each family's compared runs, and whether it lies at the edge of the rates tried.

A family is an entry of the sweep file; its series share the rates that were tuned for one series. Everything is derived
from the rows. Tuning has rounds: the stage `tune` (with what extended its grid, `tune-extended`) tries every rate, and
each later one, `tune-2` and on, tries the best of the round before with other seeds. The mean loss of the last round
decides; how far it is below the next best, with its standard error, says how sure the choice is.

A rate is at the edge if it is the smallest or the largest tried; a diverged run counts as tried, so the best rate just
below a rate that diverged is not at the edge. An edge is reported and changes no result: the family might reach a lower
loss at a rate outside the range.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    round: int
    """1, or the number that ends its stage's name; an extension of the grid belongs to round 1."""
    seed: int


@dataclass(frozen=True, kw_only=True)
class Lead:
    """How far the best rates of the last round are below the next best, in mean loss."""

    nats: float
    standard_error: float | None
    """From what is left of the round's losses without the means of its rates and of its seeds; None with one seed."""
    num_seeds: int
    num_rates: int


@dataclass(frozen=True, kw_only=True)
class TuningCost:
    """What tuning cost beside the comparison."""

    num_runs: int
    share_of_flops: float
    """Of the training FLOPs of all runs that ended."""
    share_of_seconds: float | None
    """Of their training seconds; None where the table lacks them."""


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
    """The rates with the lowest mean loss in the last round, and that mean; None where none ended for every seed."""
    lead: Lead | None
    """None where the last round has one pair of rates."""
    edges: tuple[str, ...]
    """The rates at an edge and which edge, such as 'table rate at the highest tried'."""
    note: str

    @property
    def diverged(self) -> int:
        """How many of the tuning runs diverged."""
        return sum(tried.loss is None for tried in self.tuning_runs)

    @property
    def num_rounds(self) -> int:
        """Rounds of tuning in the table."""
        return max((tried.round for tried in self.tuning_runs), default=0)


def learning_rate_choices(results: Results) -> tuple[LearningRateChoice, ...]:
    """The choice of every compared family, in the order of the table."""
    names = dict.fromkeys(family_name(label) for label in results.compare.labels)
    return tuple(_family(results, name) for name in names)


def _family(results: Results, family: str) -> LearningRateChoice:
    compared = _tried(results.compare, family)
    tried = tuple(sorted(_tried(results.tune, family), key=_order))
    ranked = _ranked(tried)
    best = ranked[0] if ranked else None
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
        lead=_lead(tried, ranked),
        edges=_edges(used, tried) if used else (),
        note="; ".join(notes),
    )


def _tried(runs: Runs, family: str) -> list[TuningRun]:
    if "learning_rate" not in runs.numbers:
        return []
    rates, losses = runs.number("learning_rate"), runs.number("loss_nats")
    unknown = np.full(len(runs), np.nan)
    tables, widths = (runs.numbers.get(column, unknown) for column in ("table_learning_rate", "d_model"))
    stages = runs.frame["stage"].tolist()
    return [
        TuningRun(
            learning_rate=float(rates[run]),
            table_factor=float(tables[run] / rates[run]) if np.isfinite(tables[run]) else None,
            budget_flops=float(runs.budget_flops[run]),
            d_model=float(widths[run]) if np.isfinite(widths[run]) else None,
            loss=float(losses[run]) if np.isfinite(losses[run]) else None,
            round=_round(stages[run]),
            seed=int(runs.seed[run]),
        )
        for run in np.flatnonzero(_named(runs, family) & np.isfinite(rates))
    ]


def tuning_cost(results: Results) -> TuningCost | None:
    """What the tuning runs that ended cost, as a share of all runs that ended; None without tuning runs."""
    tune, compare = results.tune, results.compare
    if not len(tune):
        return None
    shares: dict[str, float | None] = {}
    for column in ("flops_train", "train_seconds"):
        here, there = (np.nansum(runs.number(column)) if column in runs.numbers else np.nan for runs in (tune, compare))
        shares[column] = float(here / (here + there)) if here > 0 and there > 0 else None
    return TuningCost(
        num_runs=len(tune),
        share_of_flops=shares["flops_train"] or 0.0,
        share_of_seconds=shares["train_seconds"],
    )


def _round(stage: str) -> int:
    end = stage.removeprefix("tune-")
    return int(end) if end.isdecimal() else 1


def _order(one: TuningRun) -> tuple[int, float, float, int]:
    return (one.round, one.learning_rate, one.table_factor or 0.0, one.seed)


def _ranked(tried: tuple[TuningRun, ...]) -> list[TuningRun]:
    """The rates of the last round by their mean loss, the lowest first; without those that did not end for a seed."""
    found = []
    for runs in _by_rates(tried).values():
        losses = [run.loss for run in runs if run.loss is not None]
        if len(losses) == len(runs):
            found.append(replace(runs[0], loss=float(np.mean(losses))))
    return sorted(found, key=lambda one: (one.loss, _order(one)))


def _by_rates(tried: tuple[TuningRun, ...]) -> dict[tuple[float, float], list[TuningRun]]:
    """The runs of the last round, by their rates."""
    last = max((one.round for one in tried), default=0)
    found: dict[tuple[float, float], list[TuningRun]] = {}
    for one in tried:
        if one.round == last:
            found.setdefault((one.learning_rate, one.table_factor or 0.0), []).append(one)
    return found


def _lead(tried: tuple[TuningRun, ...], ranked: list[TuningRun]) -> Lead | None:
    """The lead of the best rates, with its standard error sqrt(2 s² / seeds).

    s² is the residual mean square of a two-way layout of rates and seeds without interaction (Montgomery 2017, "Design
    and Analysis of Experiments", section 4.1), since all rates see the same seeds.
    """
    if len(ranked) < 2:
        return None
    keys = {(one.learning_rate, one.table_factor or 0.0) for one in ranked}
    seeds = sorted({run.seed for run in tried if run.round == ranked[0].round})
    losses = {
        key: {run.seed: run.loss for run in runs} for key, runs in _by_rates(tried).items() if key in keys
    }  # fmt: skip
    error = None
    if len(seeds) > 1 and all(set(found) == set(seeds) for found in losses.values()):
        table = np.array([[found[seed] for seed in seeds] for found in losses.values()], dtype=float)
        left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
        error = float(np.sqrt(2 * (left**2).sum() / ((len(table) - 1) * (len(seeds) - 1)) / len(seeds)))
    assert ranked[0].loss is not None
    assert ranked[1].loss is not None
    return Lead(nats=ranked[1].loss - ranked[0].loss, standard_error=error, num_seeds=len(seeds), num_rates=len(ranked))


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
