"""Variants of a family: what each setting changes against the family's reference series, with intervals.

The reference is the series that bears the family's own name, else the first without settings, else the first. Series
that differ from it in their number of slots only are table sizes, not variants (`analysis.sweep.table_size`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from analysis import formatting
from analysis.errors import FitError
from analysis.gains.differences import Comparison, compare
from analysis.gains.measures import Measure
from analysis.tables.runs import Runs, without


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One series against the reference."""

    series: str
    comparisons: tuple[Comparison, ...]
    """One a measure, the loss first."""

    @property
    def loss(self) -> Comparison:
        """The comparison of the losses."""
        return self.comparisons[0]

    @property
    def verdict(self) -> str:
        """Of the loss, averaged over the budgets both have."""
        return self.loss.overall.verdict(self.loss.measure.lower_is_better)


@dataclass(frozen=True, kw_only=True)
class Variants:
    """A family's variants."""

    family: str
    reference: str
    variants: tuple[Variant, ...]
    """By increasing loss."""

    def counts(self) -> Counter[str]:
        """How many variants have each verdict."""
        return Counter(one.verdict for one in self.variants)


def variants(runs: Runs, measures: Sequence[Measure]) -> tuple[tuple[Variants, ...], tuple[str, ...]]:
    """The variants of every family that has some, and warnings."""
    found, warnings = [], []
    for family in runs.families:
        reference, *others = runs.series_of(family)
        same = without(reference, "num_slots")
        compared = []
        for label in others:
            if without(label, "num_slots") == same:
                continue
            try:
                one = tuple(compare(runs, label, reference, measure) for measure in measures)
            except FitError:
                warnings.append(
                    f"{formatting.series(label)} has no budget in common with {formatting.series(reference)}, the"
                    " reference of its family, so it is not compared with it"
                )
                continue
            compared.append(Variant(series=label, comparisons=one))
        if compared:
            compared.sort(key=lambda one: one.loss.overall.value)
            found.append(Variants(family=family, reference=reference, variants=tuple(compared)))
    return tuple(found), tuple(warnings)
