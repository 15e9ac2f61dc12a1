"""What each ablation changes against its family's reference: a row an ablation, with its 95 % interval."""

from __future__ import annotations

from analysis import formatting
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure
from analysis.figures.palette import series_styles
from analysis.gains.differences import Comparison, Difference
from analysis.gains.measures import Measure
from analysis.sweep.ablations import Ablation, Ablations
from analysis.sweep.study import Study
from analysis.tables.runs import family_name


def loss_of_ablations(study: Study) -> Figure | None:
    """Each ablation's difference in loss from its family's reference."""
    return _ablations(study, study.measures[0], "ablations")


def recall_of_ablations(study: Study) -> Figure | None:
    """Each ablation's difference in recall from its family's reference."""
    return None if study.recall is None else _ablations(study, study.recall, "ablations_recall")


def _ablations(study: Study, measure: Measure, stem: str) -> Figure | None:
    """Differences from the reference with their intervals, a row an ablation, by increasing loss."""
    if not study.ablations:
        return None
    found = [(group, one) for group in study.ablations for one in group.ablations]
    shown = {one.series: _of(one, measure).overall for _, one in found}
    values = {label: _difference(shown[label], measure) for label in shown}
    left = 0.12 + style.text_width((_ablation_name(group, one) for group, one in found), 7)
    num_rows = len(found) + 2 * len(study.ablations)
    figure, axes = style.panel(
        width=4.4, height=0.62 + 0.185 * num_rows, left=left, right=0.1 + style.text_width(values.values(), 6.5)
    )
    rows: list[DataRow] = []
    height = 0.0
    for group in study.ablations:
        axes.annotate(
            f"against {formatting.series(group.reference)}", (0, height), xycoords=("axes fraction", "data"),
            xytext=(6 - 72 * left, 0), textcoords="offset points", va="center", fontweight="bold",
            color=series_styles(study.results.compare)[group.reference].colour, annotation_clip=False,
        )  # fmt: skip
        for one in group.ablations:
            height -= 1
            difference, mark = shown[one.series], series_styles(study.results.compare)[one.series]
            interval = difference.interval
            if interval is not None:
                axes.plot([interval.lower, interval.upper], [height] * 2, color=mark.colour, lw=1.4)
            axes.plot(difference.value, height, mark.marker, color=mark.colour, ms=4.5)
            axes.annotate(
                _ablation_name(group, one), (0, height), xycoords=("axes fraction", "data"), xytext=(-6, 0),
                textcoords="offset points", ha="right", va="center", fontsize=7, annotation_clip=False,
            )  # fmt: skip
            axes.annotate(
                values[one.series], (1, height), xycoords=("axes fraction", "data"), xytext=(4, 0),
                textcoords="offset points", va="center", fontsize=6.5, color=style.QUIET, annotation_clip=False,
            )  # fmt: skip
            low, high = ("", "") if interval is None else (interval.lower, interval.upper)
            rows.append(("difference", one.series, difference.value, "", low, high, "", ""))
        height -= 1.3
    axes.axvline(0, color=style.QUIET, lw=0.8)
    axes.set_ylim(height + 0.7, 0.7)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"difference in {measure.words}, {measure.unit}")
    axes.locator_params(axis="x", nbins=3)
    several = any(len(one.loss.at_budgets) > 1 for _, one in found)
    lower = "a lower loss" if measure.lower_is_better else "less recall"
    return Figure(
        stem=stem,
        title=f"What each ablation changes in {measure.words}",
        caption="Differences of means over seeds"
        + (" and budgets" if several else "")
        + f", with {formatting.level(study.level)} intervals; left"
        f" of zero is {lower}. Not corrected for the number of ablations.",
        figure=figure,
        rows=rows,
    )


def _ablation_name(group: Ablations, one: Ablation) -> str:
    """Its settings, where the family is that of the reference above it; else its whole name."""
    same = family_name(one.series) == family_name(group.reference)
    return (formatting.setting(one.series) if same else "") or formatting.series(one.series)


def _of(one: Ablation, measure: Measure) -> Comparison:
    return next(comparison for comparison in one.comparisons if comparison.measure.column == measure.column)


def _difference(difference: Difference, measure: Measure) -> str:
    return formatting.with_interval(difference.value, difference.interval, sign=True, most=measure.decimals)
