"""The laws of memory tables and of experts that a sweep's own runs carry, ranked by what they predict of held-out runs.

What is asked: of the loss, of the nats of the answers (where the sweep asks facts) and of the share of the offered bits
that is stored, which law predicts the largest tables (or most experts) and the largest base best? The same three forms
(more parameters, a term of its own, the logarithm of its size) are asked of both families, beside a law that knows of
neither (`chinchilla`, `stored_dense`) and the published joint law of experts.

1. Runs: those of one sparse family and the dense runs of its sweep, all seeds, as single runs.
2. N is the non-embedding parameters of the budget's dense model, so that a base has one N whatever stands on it; D
   training tokens; T parameters and K slots of the table; E experts over experts a token, 1 for dense; B bits offered.
3. Nats of an answer depend on parameters, tokens and slots per bit offered: N, D, T and K are then counted per bit,
   where the bits per parameter differ between budgets (else B is a multiple of N, and the law's N holds it).
4. Held out: the largest tables at up to three limits, and the largest bases at up to two; dense runs stay in the fit
   (they are what a law of the table is read against). Settings left out in ten folds show interpolation.
5. Least squares on the plain scale; errors are in nats, or in share of the bits offered.
6. Groups for all intervals: one seed at one budget, which is one order of data and one set of initial weights.

Refuses a table without dense runs, with fewer than four sizes of the family or three bases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis import formatting
from analysis.errors import FitError
from analysis.fitting.cross_validation import Data, Options
from analysis.fitting.law_ranking import RankedLaw, rank_by_splits
from analysis.fitting.splits import folds, largest
from analysis.laws.registry import LAWS
from analysis.result import Result
from analysis.sweep.law_inputs import BASE, INSIDE, LawRuns, Target, law_runs, targets
from analysis.sweep.matching import WITHOUT_SIZE
from analysis.tables.results import Results

if TYPE_CHECKING:
    import pandas as pd

LAWS_OF = {
    ("table", "loss"): ("chinchilla", "memory_effective", "memory_additive", "memory_log_linear"),
    ("experts", "loss"): ("chinchilla", "experts_effective", "experts_additive", "experts_log_linear", "joint_moe"),
    ("table", "share"): (
        "stored_dense", "stored_memory_effective", "stored_memory_additive", "stored_memory_log_linear",
    ),
    ("experts", "share"): (
        "stored_dense", "stored_experts_effective", "stored_experts_additive", "stored_experts_log_linear",
    ),
}  # fmt: skip
"""By what the family has, and what is fitted (nats of answers as losses)."""
MOST_TABLES, MOST_BASES = 3, 2
"""Limits of the two kinds of extrapolation."""


@dataclass(frozen=True, kw_only=True)
class LawTable:
    """The laws of one family for one target, the best first."""

    runs: LawRuns
    target: Target
    laws: tuple[RankedLaw, ...]
    per_bit: bool
    """Whether N, D, T and K are counted per bit offered."""
    noise: float
    """Standard deviation of a run about the mean of its setting, in the target's unit; not a number without replicates.
    No law can predict single runs better."""

    @property
    def first(self) -> RankedLaw:
        """The law with the least error."""
        return self.laws[0]

    @property
    def tied(self) -> tuple[RankedLaw, ...]:
        """The laws whose error is not distinguished from the first one's."""
        return tuple(one for one in self.laws[1:] if one.over_first_ci95 is not None and one.over_first_ci95.lower <= 1)


@dataclass(frozen=True, kw_only=True)
class MemoryLaws(Result):
    """Every family and target of a sweep."""

    source: str
    tables: tuple[LawTable, ...]
    not_made: tuple[str, ...]
    """What could not be asked, each with its reason."""

    def to_frame(self) -> pd.DataFrame:
        """One row a family, target and law: place, errors by kind of split with 95 % intervals, ratio to the first."""
        import pandas as pd

        rows = []
        for table in self.tables:
            for place, one in enumerate(table.laws, start=1):
                row: dict[str, object] = {"family": table.runs.family, "target": table.target.words, "place": place}
                row |= {"law": one.law.name, "score": one.score}
                for kind, error in one.errors.items():
                    lower, upper = error.ci95 or (np.nan, np.nan)
                    name = kind.replace(" ", "_").replace("-", "_")
                    row |= {name: error.rms, f"{name}_lower": lower, f"{name}_upper": upper}
                lower, upper = one.over_first_ci95 or (np.nan, np.nan)
                row |= {"over_first": one.over_first, "over_first_lower": lower, "over_first_upper": upper}
                row |= {"fitted_runs": one.fit_rms, "noise": table.noise, "reason": one.reason}
                rows.append(row)
        return pd.DataFrame(rows)

    def coefficients(self) -> pd.DataFrame:
        """One row a family, target, law and coefficient: value, 95 % interval, whether the table determines it."""
        import pandas as pd

        rows = [
            {
                "family": table.runs.family,
                "target": table.target.words,
                "law": one.law.name,
                "coefficient": each.name,
                "value": each.value,
                "lower": each.ci95.lower,
                "upper": each.ci95.upper,
                "identified": each.identified,
            }
            for table in self.tables
            for one in table.laws
            if one.fit is not None
            for each in one.fit.coefficients
        ]
        return pd.DataFrame(rows)

    def summary(self) -> str:
        """A block a family and target: a line a law, the best first, with errors and intervals; then what failed."""
        blocks = [_block(table) for table in self.tables]
        return "\n\n".join([*blocks, *(f"not made: {reason}" for reason in self.not_made)])


def memory_laws(results: Results, *, seed: int = 0) -> MemoryLaws:
    """The laws of every sparse family with sizes enough, for every target that the table has.

    Args:
        results: A sweep's results with dense runs and one sparse family or more, in several sizes on several bases.
        seed: Of the draws for intervals.

    Raises:
        FitError: No family can be asked, with every reason.
    """
    tables, not_made = [], []
    for family in results.compare.families:
        if family in WITHOUT_SIZE:
            continue
        try:
            runs = law_runs(results, family)
        except FitError as error:
            not_made.append(str(error))
            continue
        for target in targets(runs):
            try:
                tables.append(law_table(runs, target, seed=seed))
            except FitError as error:
                not_made.append(f"{formatting.family(family)}, {target.words}: {error}")
    if not tables:
        raise FitError(f"{results.path} carries no law of tables or experts: " + "; ".join(not_made or ["only dense"]))
    return MemoryLaws(source=str(results.path), tables=tuple(tables), not_made=tuple(not_made))


def law_table(runs: LawRuns, target: Target, *, names: Sequence[str] = (), seed: int = 0) -> LawTable:
    """The laws for one target (those of `names`, else the target's own), ranked; see the module."""
    laws = [LAWS[name] for name in names or LAWS_OF[runs.has, target.form]]
    columns, per_bit = runs.columns(target)
    splits = (
        *largest(runs.size, runs.sparse, runs.larger, most=MOST_TABLES),
        *largest(runs.base, runs.sparse, BASE, most=MOST_BASES),
        *folds(runs.setting, INSIDE),
    )
    data = Data(columns=columns, loss=target.value, scale=runs.base, size=runs.base)
    ranked = rank_by_splits(
        laws,
        {law.name: {column.name: columns[column.name] for column in law.columns} for law in laws},
        data,
        splits,
        runs.group,
        extrapolating=(runs.larger, BASE),
        options=Options(objective="lsq", relative=False),
        groups_name="one seed at one budget",
        seed=seed,
    )
    return LawTable(runs=runs, target=target, laws=ranked, per_bit=per_bit, noise=runs.noise(target.value))


def _block(table: LawTable) -> str:
    target = table.target
    head = (
        f"{formatting.family(table.runs.family)}, {target.words}: root mean square errors in {target.unit} of"
        f" {formatting.counted(len(target.value), 'run')} (noise of a run {formatting.significant(table.noise)})"
    )
    rows = [["law", *table.first.errors, "over the first", ""]]
    for one in table.laws:
        errors = [_error(one, kind) for kind in one.errors]
        ratio = "" if one is table.first else formatting.times(one.over_first, one.over_first_ci95)
        weak = f"not determined by the table: {', '.join(one.weak)}" if one.weak else ""
        rows.append([one.law.name, *errors, *(["", one.reason] if one.reason else [ratio, weak])])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]) - 1)]
    lines = [
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]
    return "\n".join([head, *(line.rstrip() for line in lines)])


def _error(one: RankedLaw, kind: str) -> str:
    error = one.errors[kind]
    if not np.isfinite(error.rms):
        return "-"
    return formatting.with_interval(error.rms, error.ci95, most=4)
