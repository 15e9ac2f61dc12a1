"""Ablations of a family: what each setting changes against the family's reference series, with intervals.

The reference is the series that bears the family's own name, else the first without settings, else the first. Series
that differ from it in their number of slots only are table sizes, not ablations (`analysis.sweep.table_size`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis import formatting
from analysis.errors import FitError
from analysis.gains.differences import Comparison, compare
from analysis.gains.measures import Measure
from analysis.interval import LEVEL
from analysis.result import Result
from analysis.tables.runs import Runs, family_name, without

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """One series against the reference."""

    series: str
    comparisons: tuple[Comparison, ...]
    """For each measure, the loss first."""

    @property
    def loss(self) -> Comparison:
        """The comparison of the losses."""
        return self.comparisons[0]

    @property
    def verdict(self) -> str:
        """Of the loss, averaged over the budgets both have."""
        return self.loss.overall.verdict(self.loss.measure.lower_is_better)


@dataclass(frozen=True, kw_only=True)
class Ablations(Result):
    """A family's ablations."""

    family: str
    reference: str
    ablations: tuple[Ablation, ...]
    """By increasing loss."""

    def counts(self) -> Counter[str]:
        """How many ablations have each verdict."""
        return Counter(one.verdict for one in self.ablations)

    def to_frame(self) -> pd.DataFrame:
        """Every comparison's rows, as `Comparison.to_frame` gives them, by increasing loss."""
        import pandas as pd

        return pd.concat([part.to_frame() for one in self.ablations for part in one.comparisons], ignore_index=True)

    def summary(self) -> str:
        """The comparison of each series with the reference, the loss first."""
        return "\n".join(part.summary() for one in self.ablations for part in one.comparisons)


def ablations(
    runs: Runs, measures: Sequence[Measure], *, level: float = LEVEL
) -> tuple[tuple[Ablations, ...], tuple[str, ...]]:
    """The ablations of every family that has some, and warnings."""
    found, warnings = [], []
    # Families of one kind under several names are compared as families (`gains.measures.named_pairs`).
    one_kind = len(runs.families) == 1
    for family in runs.families:
        reference, *others = runs.series_of(family)
        same = without(reference, "num_slots")
        compared = []
        for label in others:
            if without(label, "num_slots") == same or (one_kind and family_name(label) != family_name(reference)):
                continue
            try:
                one = tuple(compare(runs, label, reference, measure, level=level) for measure in measures)
            except FitError:
                warnings.append(
                    f"{formatting.series(label)} has no budget in common with {formatting.series(reference)}, the"
                    " reference of its family, so it is not compared with it"
                )
                continue
            compared.append(Ablation(series=label, comparisons=one))
        if compared:
            compared.sort(key=lambda one: one.loss.overall.value)
            found.append(Ablations(family=family, reference=reference, ablations=tuple(compared)))
    return tuple(found), tuple(warnings)
