"""Everything that is said about one results table, computed once: the report, the figures and the card show it.

`study` is a pure function of the table: seeds of the draws are fixed, so the same table gives the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.errors import FitError
from analysis.gains.differences import Comparison, compare
from analysis.gains.measures import Measure, measures, pairs
from analysis.gains.multipliers import LawDifference, Multiplier, law_difference, multiplier
from analysis.gains.scaling_curves import FLOPS, SECONDS, Axis, Curves, fit_curves
from analysis.sweep.ablations import Variants, variants
from analysis.sweep.learning_rates import Tuned, tuned
from analysis.sweep.matching import Gap, gaps
from analysis.sweep.model_size import IsoFlops, isoflops
from analysis.sweep.table_size import BySlots, by_slots
from analysis.tables.results import Results


@dataclass(frozen=True, kw_only=True)
class Study:
    """One table's numbers."""

    results: Results
    measures: tuple[Measure, ...]
    pairs: tuple[tuple[str, str], ...]
    """(subject, baseline), labels of series; the first decides the headline where families are what is compared."""
    comparisons: tuple[Comparison, ...]
    """Every pair in every measure."""
    curves: dict[str, Curves]
    """By the key of the axis; an axis without two budgets is absent."""
    no_curves: dict[str, str]
    """Why an axis is absent."""
    multipliers: tuple[Multiplier, ...]
    law_differences: tuple[LawDifference, ...]
    slots: BySlots | None
    """None where no family has two sizes of table at one budget."""
    isoflops: IsoFlops | None
    """None where no series has two model sizes at one number of FLOPs."""
    variants: tuple[Variants, ...]
    gaps: tuple[Gap, ...]
    tuned: tuple[Tuned, ...]
    warnings: tuple[str, ...]

    def comparison(self, subject: str, baseline: str, column: str) -> Comparison | None:
        """One pair in one measure; None where it was not compared."""
        for one in self.comparisons:
            if (one.subject, one.baseline, one.measure.column) == (subject, baseline, column):
                return one
        return None

    def multiplier(self, subject: str, baseline: str, axis: Axis) -> Multiplier | None:
        """One pair along one axis; None where there are no laws."""
        for one in self.multipliers:
            if (one.subject, one.baseline, one.axis) == (subject, baseline, axis.key):
                return one
        return None

    def law_difference(self, subject: str, baseline: str, axis: Axis) -> LawDifference | None:
        """One pair along one axis; None where there are no laws."""
        for one in self.law_differences:
            if (one.subject, one.baseline, one.axis) == (subject, baseline, axis.key):
                return one
        return None

    @property
    def recall(self) -> Measure | None:
        """The recall of facts; None where the table has none."""
        return next((measure for measure in self.measures if measure.words == "recall"), None)

    @property
    def focus(self) -> str:
        """What the sweep compares, by what its table holds: 'families', 'slots', 'variants', 'sizes' or 'nothing'.

        Sizes of a table or settings of one sparse family come first where there is no other sparse family.
        """
        held = {
            "slots": self.slots is not None,
            "variants": bool(self.variants),
            "families": bool(self.pairs),
            "sizes": self.isoflops is not None,
        }
        sparse = [family for family in self.results.compare.families if family != "dense"]
        order = ("families", "slots", "variants", "sizes")
        if len(sparse) < 2:
            order = ("slots", "variants", "families", "sizes")
        return next((one for one in order if held[one]), "nothing")


def study(results: Results, *, subject: str | None = None, baseline: str | None = None) -> Study:
    """Compute everything. Raises FitError where a pair was asked for and cannot be compared."""
    runs = results.compare
    chosen = _pairs(results, subject, baseline)
    found = measures(runs)
    curves, absent = _curves(results)
    law_noise = curves[FLOPS.key].noise if FLOPS.key in curves else None
    comparisons, warnings = [], []
    for ours, theirs in chosen:
        try:
            comparisons += [compare(runs, ours, theirs, measure, law_noise=law_noise) for measure in found]
        except FitError as error:
            if subject is not None:
                raise
            warnings.append(str(error))
    compared = [pair for pair in chosen if any((one.subject, one.baseline) == pair for one in comparisons)]
    multipliers, differences = [], []
    for one in curves.values():
        for ours, theirs in compared:
            try:
                multipliers.append(multiplier(one, ours, theirs))
                differences.append(law_difference(one, ours, theirs))
            except FitError as error:
                warnings.append(str(error))
    for one_comparison in comparisons:
        warnings += one_comparison.warnings
    main = tuple(measure for measure in found if measure.words in ("loss", "recall"))
    slots = by_slots(runs, main)
    varied, not_varied = variants(runs, main)
    warnings += not_varied
    if slots is not None and slots.laws is not None:
        warnings += slots.laws.warnings
    for one in curves.values():
        warnings += one.warnings
    return Study(
        results=results,
        measures=found,
        pairs=tuple(compared),
        comparisons=tuple(comparisons),
        curves=curves,
        no_curves=absent,
        multipliers=tuple(multipliers),
        law_differences=tuple(differences),
        slots=slots,
        isoflops=isoflops(results, found[0]),
        variants=varied,
        gaps=gaps(runs),
        tuned=tuned(results),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _pairs(results: Results, subject: str | None, baseline: str | None) -> tuple[tuple[str, str], ...]:
    """What is compared: the series that were asked for, else the reference series of the families."""
    runs = results.compare
    ours, theirs = (None if name is None else _series(results, name) for name in (subject, baseline))
    if ours is not None:
        references = [runs.reference(family) for family in runs.families]
        others = [theirs] if theirs is not None else [label for label in references if label != ours]
        return tuple((ours, other) for other in others)
    every = tuple((runs.reference(subject), runs.reference(baseline)) for subject, baseline in pairs(runs.families))
    return every if theirs is None else tuple(pair for pair in every if pair[1] == theirs)


def _series(results: Results, name: str) -> str:
    """The series of that label, or a family's reference series. Raises FitError for a name that is neither."""
    runs = results.compare
    if name in runs.labels:
        return name
    if name in runs.families:
        return runs.reference(name)
    raise FitError(f"no done run of the family or series '{name}'; the table has {', '.join(runs.labels)}")


def _curves(results: Results) -> tuple[dict[str, Curves], dict[str, str]]:
    curves, absent = {}, {}
    for axis in (FLOPS, SECONDS):
        if not results.compare.has(axis.column):
            absent[axis.key] = f"the table has no {axis.column} for every run"
            continue
        try:
            curves[axis.key] = fit_curves(results.compare, axis)
        except FitError as error:
            absent[axis.key] = str(error)
    return curves, absent
