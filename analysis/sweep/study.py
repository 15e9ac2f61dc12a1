"""Everything that is computed from one results table: the report, the figures and the card show it.

`study` is a pure function of the table: seeds of the draws are fixed, so the same table gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from analysis import formatting
from analysis.errors import FitError
from analysis.gains.differences import Comparison, compare
from analysis.gains.measures import RECALLS, Measure, main_measure, measures, named_pairs
from analysis.gains.multipliers import LawDifference, Multiplier, law_difference, multiplier
from analysis.gains.scaling_curves import FLOPS, SECONDS, Axis, Curves, fit_curves
from analysis.gains.seconds import seconds_noise, timed_difference, timed_multiplier
from analysis.inference.replicate_noise import Noise
from analysis.inference.sequential import levels
from analysis.interval import LEVEL
from analysis.result import Result
from analysis.sweep.ablations import Ablations, ablations
from analysis.sweep.knowledge import Knowledge, knowledge
from analysis.sweep.learning_rates import LearningRateChoice, learning_rate_choices
from analysis.sweep.matching import Mismatch, mismatches
from analysis.sweep.model_size import IsoFlops, isoflops
from analysis.sweep.table_size import TableSizes, table_sizes
from analysis.tables.looks import Looks
from analysis.tables.planned_resolution import PlannedResolution
from analysis.tables.results import Results
from analysis.tables.runs import Runs

if TYPE_CHECKING:
    import pandas as pd


IN_EVERY_SECTION = (
    "loss_nats",
    "bits_stored_per_parameter",
    "score_dense_facts_recall",
    "score_dense_facts_nats",
    "score_facts_recall_acc",
)
"""Measures that ablations are shown in too."""
OF_TABLE_SIZES = tuple("bits_stored" if one == "bits_stored_per_parameter" else one for one in IN_EVERY_SECTION)
"""Measures that table sizes are shown in: bits in all, since dense models of several sizes stand beside the tables."""


@dataclass(frozen=True, kw_only=True)
class Study(Result):
    """Everything that is computed from one results table."""

    results: Results
    measures: tuple[Measure, ...]
    main: Measure
    """What the sweep's question is about: the report opens with it."""
    looks: Looks | None
    """The readings so far, this one last; None: the table is read once."""
    level: float
    """Of the intervals: above 0.95 where the comparison may be read again (`inference.sequential`)."""
    resolution: tuple[PlannedResolution, ...]
    """What the plan said it could tell; empty where that is not known."""
    pairs: tuple[tuple[str, str], ...]
    """(subject, baseline), labels of series; the first decides the headline where families are what is compared."""
    comparisons: tuple[Comparison, ...]
    """Every pair in every measure."""
    curves: dict[str, Curves]
    """By the key of the axis; an axis without two budgets is absent."""
    no_curves: dict[str, str]
    """By the key of the axis: why it is absent."""
    multipliers: tuple[Multiplier, ...]
    law_differences: tuple[LawDifference, ...]
    table_sizes: TableSizes | None
    """None where no family has two sizes of table at one budget."""
    isoflops: IsoFlops | None
    """None where no series has two model sizes at one number of FLOPs."""
    ablations: tuple[Ablations, ...]
    knowledge: Knowledge | None
    """None where the table does not offer a series several amounts of facts."""
    mismatches: tuple[Mismatch, ...]
    learning_rates: tuple[LearningRateChoice, ...]
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

    def to_frame(self) -> pd.DataFrame:
        """The rows of every comparison: of the pairs in every measure, then of the ablations with their references."""
        import pandas as pd

        columns = ["subject", "baseline", "measure", "at", "value", "lower", "upper", "verdict"]
        parts = [*(one.to_frame() for one in self.comparisons), *(one.to_frame() for one in self.ablations)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)

    def summary(self) -> str:
        """Comparisons, multipliers, table sizes and ablations; then mismatches of the design and warnings."""
        lines = [one.summary() for one in self.comparisons]
        for one in self.multipliers:
            value = one.refusal if one.value is None else formatting.times(one.value, one.interval)
            lines.append(f"{one.subject} over {one.baseline}, multiplier along {one.axis}: {value}")
        lines += [] if self.table_sizes is None else [self.table_sizes.summary()]
        lines += [one.summary() for one in self.ablations]
        lines += [] if self.knowledge is None else [self.knowledge.summary()]
        lines += [f"{one.words} differ by up to {100 * one.value:.2g} % ({one.among})" for one in self.mismatches]
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    @property
    def recall(self) -> Measure | None:
        """The recall of facts; None where the table has none."""
        columns = {column for column, _ in RECALLS}
        return next((measure for measure in self.measures if measure.column in columns), None)

    @property
    def focus(self) -> str:
        """What the sweep compares: 'families', 'table_sizes', 'ablations', 'model_sizes' or 'nothing'.

        Table sizes and ablations come first where the table has one sparse family only.
        """
        held = {
            "table_sizes": self.table_sizes is not None,
            "ablations": bool(self.ablations),
            "families": bool(self.pairs),
            "model_sizes": self.isoflops is not None,
        }
        sparse = [family for family in self.results.compare.families if family != "dense"]
        order = ("families", "table_sizes", "ablations", "model_sizes")
        if len(sparse) < 2:
            order = ("table_sizes", "ablations", "families", "model_sizes")
        return next((one for one in order if held[one]), "nothing")


def study(
    results: Results,
    *,
    subject: str | None = None,
    baseline: str | None = None,
    measure: str | None = None,
    looks: Looks | None = None,
    resolution: tuple[PlannedResolution, ...] = (),
) -> Study:
    """Compute everything.

    Args:
        results: The table.
        subject: Label of a series, or a family; without: the first sparse family.
        baseline: What it is compared with; without: every baseline.
        measure: Column of the measure that the question is about; without: `gains.measures.main_measure`.
        looks: Earlier readings of the sweep; this one is added.
        resolution: What the plan said it could tell.

    Raises:
        FitError: A requested pair cannot be compared, or the table has no such measure.
    """
    runs = results.compare
    looks = None if looks is None else looks.now(len(set(runs.seed.tolist())))
    level = LEVEL if looks is None else levels(looks.num_seeds)[-1]
    chosen = _pairs(results, subject, baseline)
    found = measures(runs)
    curves, absent = _curves(results)
    law_noise = curves[FLOPS.key].noise if FLOPS.key in curves else None
    comparisons, warnings = _compare(runs, chosen, found, law_noise, level, asked=subject is not None)
    compared = [pair for pair in chosen if any((one.subject, one.baseline) == pair for one in comparisons)]
    multipliers, differences, unread = _read_off(curves, compared, runs, level)
    warnings += [*unread, *(text for one in comparisons for text in one.warnings)]
    by_table_size = table_sizes(runs, tuple(one for one in found if one.column in OF_TABLE_SIZES), level=level)
    varied, not_varied = ablations(runs, tuple(one for one in found if one.column in IN_EVERY_SECTION), level=level)
    warnings += not_varied
    if by_table_size is not None and by_table_size.laws is not None:
        warnings += by_table_size.laws.warnings
    warnings += [text for one in curves.values() for text in one.warnings]
    return Study(
        results=results,
        measures=found,
        main=main_measure(found, measure),
        looks=looks,
        level=level,
        resolution=resolution,
        pairs=tuple(compared),
        comparisons=tuple(comparisons),
        curves=curves,
        no_curves=absent,
        multipliers=tuple(multipliers),
        law_differences=tuple(differences),
        table_sizes=by_table_size,
        isoflops=isoflops(results, found[0], level=level),
        ablations=varied,
        knowledge=knowledge(runs, level=level),
        mismatches=mismatches(runs),
        learning_rates=learning_rate_choices(results),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _compare(
    runs: Runs,
    chosen: Sequence[tuple[str, str]],
    found: Sequence[Measure],
    law_noise: Noise | None,
    level: float,
    *,
    asked: bool,
) -> tuple[list[Comparison], list[str]]:
    """Every pair in every measure, and why one is missing; FitError where the pair was `asked` for."""
    comparisons, missing = [], []
    for ours, theirs in chosen:
        try:
            comparisons += [compare(runs, ours, theirs, one, law_noise=law_noise, level=level) for one in found]
        except FitError as error:
            if asked:
                raise
            missing.append(str(error))
    return comparisons, missing


def _read_off(
    curves: dict[str, Curves], compared: list[tuple[str, str]], runs: Runs, level: float
) -> tuple[list[Multiplier], list[LawDifference], list[str]]:
    """The multiplier and the difference by the laws of each pair along each axis, and why one is missing."""
    multipliers, differences, warnings = [], [], []
    noise = seconds_noise(runs)
    noise = None if noise is None else replace(noise, level=level)
    for key, one in curves.items():
        for ours, theirs in compared:
            try:
                found = multiplier(one, ours, theirs, level=level)
                difference = law_difference(one, ours, theirs, level=level)
            except FitError as error:
                warnings.append(str(error))
                continue
            if key == SECONDS.key:
                found = timed_multiplier(found, runs, noise)
                difference = timed_difference(difference, one, runs, noise)
            multipliers.append(found)
            differences.append(difference)
    return multipliers, differences, warnings


def _pairs(results: Results, subject: str | None, baseline: str | None) -> tuple[tuple[str, str], ...]:
    """The pairs to compare: the requested series, else the reference series of the families."""
    runs = results.compare
    ours, theirs = (None if name is None else _series(results, name) for name in (subject, baseline))
    if ours is not None:
        references = [runs.reference(family) for family in runs.families]
        others = [theirs] if theirs is not None else [label for label in references if label != ours]
        return tuple((ours, other) for other in others)
    every = named_pairs(runs)
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
