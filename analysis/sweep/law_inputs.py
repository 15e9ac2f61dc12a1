"""The runs of a sweep by the letters that laws of memory tables and experts read, with what they are asked to predict.

Refuses a table that cannot carry such a law, by what it lacks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import formatting
from analysis.errors import FitError
from analysis.gains.run_noise import codes
from analysis.tables.results import Results
from analysis.tables.runs import BoolArray, FloatArray, IntArray, Runs, settings

BASE, INSIDE = "largest base", "left-out settings"
MIN_SIZES, MIN_BASES = 4, 3
"""Sizes of the family, and bases: two of each are fitted at least, and what lies above is held out."""
SAME_DENSITY = 1.05
"""Bits offered per parameter that differ by less than this factor between budgets are the same."""
NATS, STORED, OFFERED = "score_dense_facts_nats", "bits_stored", "bits_offered"


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a law is asked to predict."""

    key: str
    """'loss', 'nll' or 'bits'."""
    words: str
    unit: str
    form: str
    """'loss', which falls to an irreducible part, or 'share', which rises from 0 to 1."""
    value: FloatArray
    """[N]"""
    per_fact: bool = False
    """Counts are taken per bit offered where that differs between budgets."""
    entropy: float = float("nan")
    """Of shares: nats of a fact's value of which nothing is stored, so that its nats are entropy x (1 - share); not a
    number where the table has no nats."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LawRuns:
    """The runs of one sparse family and of dense, [N] each."""

    family: str
    has: str
    """'table' or 'experts'."""
    runs: Runs
    base: FloatArray
    """Non-embedding parameters of the budget's dense model."""
    size: FloatArray
    """Slots, or experts over experts a token; 0 or 1 for dense."""
    sparse: BoolArray
    setting: IntArray
    """Runs with one number are replicates."""
    group: IntArray
    """Runs with one number share a seed and a budget."""

    @property
    def larger(self) -> str:
        """The kind of split that holds out the largest sizes."""
        return "larger tables" if self.has == "table" else "more experts"

    def columns(self, target: Target) -> tuple[dict[str, FloatArray], bool]:
        """Columns by the letters of laws, and whether counts are per bit offered."""
        tokens = self.runs.number("tokens")
        found = {"N": self.base, "D": tokens}
        if self.has == "table":
            found |= {"T": _or_zero(self.runs, "params_table"), "K": self.size}
        else:
            found["E"] = self.size
        if self.runs.has(OFFERED):
            bits = self.runs.number(OFFERED)
            found["B"] = bits
            density = bits / self.base
            if target.per_fact and density.max() > SAME_DENSITY * density.min():
                return {name: values / bits if name in "NDTK" else values for name, values in found.items()}, True
        return found, False

    def noise(self, value: FloatArray) -> float:
        """Standard deviation of single runs about the means of their settings; not a number without replicates."""
        count = np.bincount(self.setting)
        degrees = len(value) - int((count > 0).sum())
        if degrees < 1:
            return float("nan")
        mean = np.bincount(self.setting, value) / np.maximum(count, 1)
        return float(np.sqrt(((value - mean[self.setting]) ** 2).sum() / degrees))


def law_runs(results: Results, family: str) -> LawRuns:
    """The runs of a family and of dense. Raises FitError where they cannot carry a law, with what is lacking."""
    name, compared = formatting.family(family), results.compare.frame
    if "dense" not in set(compared["family"]):
        raise FitError(f"{name}: a law of its size is read against dense runs, and the table has none")
    frame = compared[compared["family"].isin(["dense", family])]
    # Dense runs at budgets without the family (such as twice the compute) still say how the base's size counts.
    runs = Runs(frame=frame)
    sparse = np.array(runs.family) == family
    has = "table" if "num_slots" in frame and frame["num_slots"][sparse].notna().all() else "experts"
    size = _slots(runs, sparse) if has == "table" else _experts(runs, sparse)
    base = _bases(runs)
    for what, values, least in (
        ("sizes of table" if has == "table" else "numbers of experts", size[sparse], MIN_SIZES),
        ("bases", base[sparse], MIN_BASES),
    ):
        count = len(np.unique(np.round(np.log(values), 4)))
        if count < least:
            raise FitError(f"{name}: {count} {what} are too few for a law of them; {least} are needed")
    budget = codes(np.array(runs.budget))
    return LawRuns(
        family=family,
        has=has,
        runs=runs,
        base=base,
        size=size,
        sparse=sparse,
        setting=codes(np.array(runs.series), budget),
        group=codes(budget, runs.seed),
    )


def targets(runs: LawRuns) -> tuple[Target, ...]:
    """What the table lets us ask: the loss always, nats and bits where every run has them."""
    table = runs.runs
    found = [Target(key="loss", words="loss", unit="nats per token", form="loss", value=table.number("loss_nats"))]
    if table.has(NATS):
        found.append(
            Target(
                key="nll",
                words="loss of the facts' values",
                unit="nats per fact",
                form="loss",
                value=table.number(NATS),
                per_fact=True,
            )
        )
    if table.has(STORED) and table.has(OFFERED):
        share = table.number(STORED) / table.number(OFFERED)
        far = share < 0.9  # nearer to 1, rounding decides the quotient
        known = table.has(NATS) and far.any()
        entropy = float(np.median(table.number(NATS)[far] / (1.0 - share[far]))) if known else float("nan")
        found.append(
            Target(
                key="bits",
                words="bits stored",
                unit="share of the bits offered",
                form="share",
                value=share,
                entropy=entropy,
            )
        )
    return tuple(found)


def _bases(runs: Runs) -> FloatArray:
    """Non-embedding parameters of each run's dense model: the column of that name, else its dense runs' own."""
    if runs.has("dense_params_non_embedding"):
        return runs.number("dense_params_non_embedding")
    if not runs.has("params_non_embedding"):
        raise FitError("the table has neither dense_params_non_embedding nor params_non_embedding for every run")
    own = runs.number("params_non_embedding")
    dense = np.array(runs.family) == "dense"
    by_budget = pd.Series(own[dense]).groupby(np.array(runs.budget)[dense]).mean()
    without = sorted(set(runs.budget) - set(by_budget.index))
    if without:
        raise FitError(f"no dense run at the budget {without[0]}, so the size of its base is not known")
    return np.array([float(by_budget[budget]) for budget in runs.budget])


def _slots(runs: Runs, sparse: BoolArray) -> FloatArray:
    return np.where(sparse, np.nan_to_num(runs.number("num_slots")), 0.0)


def _experts(runs: Runs, sparse: BoolArray) -> FloatArray:
    """Experts over experts a token, from their columns or the settings of the series; 1 for dense."""
    size = np.ones(len(runs))
    for at in np.flatnonzero(sparse):
        found = settings(runs.series[at])
        experts, used = (_value(runs, int(at), key, found) for key in ("num_experts", "experts_per_token"))
        if experts is None:
            raise FitError(
                f"{formatting.family(runs.family[at])}: the number of experts of {runs.name[at]} is not known; the"
                " table needs the column num_experts"
            )
        size[at] = experts / (used or 1.0)
    return size


def _value(runs: Runs, at: int, key: str, found: dict[str, str]) -> float | None:
    if key in runs.numbers and np.isfinite(runs.number(key)[at]):
        return float(runs.number(key)[at])
    return float(found[key]) if key in found else None


def _or_zero(runs: Runs, column: str) -> FloatArray:
    if column not in runs.numbers:
        raise FitError(f"the table has no column {column}, which a law of a memory table reads")
    return np.nan_to_num(runs.number(column))
