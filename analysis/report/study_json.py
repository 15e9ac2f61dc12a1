"""The study as a card: every number of the report, for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from analysis.card import CardWarning, ends, finite
from analysis.card import card as card_of
from analysis.gains.card import comparison_body, law_difference_body, multiplier_body, noise_body
from analysis.gains.scaling_curves import Curves, SeriesCurve
from analysis.inference.replicate_noise import percentile_interval
from analysis.report.allocation_json import frontier_json, minimum_json
from analysis.report.headline import headline
from analysis.report.knowledge_json import knowledge_json
from analysis.sweep.dense_levels import DenseLevel
from analysis.sweep.learning_rates import LearningRateChoice
from analysis.sweep.matching import Mismatch
from analysis.sweep.model_size import IsoFlops
from analysis.sweep.study import Study
from analysis.sweep.table_size import TableSizeMean, TableSizes
from analysis.tables import Exclusion
from analysis.tables.results import Results

LEFT_OUT = ("row", "name", "stage", "family", "series", "status", "budget", "budget_flops", "seed", "reason")
"""Columns of a row that carries no part of the answer."""


def card(study: Study, *, question: str, sweep: str) -> dict[str, Any]:
    """The whole study as a JSON object."""
    results = study.results
    answer = headline(study)
    return card_of(
        "report",
        _Rows(results),
        _warnings(study),
        sweep=sweep,
        question=question,
        measure=study.main.column,
        looks=None if study.looks is None else list(study.looks.num_seeds),
        level=study.level,
        answer={
            "sentence": answer.sentence,
            "verdict": answer.verdict,
            "resolution": list(answer.resolution),
            "details": list(answer.details),
        },
        planned_resolution=[vars(one) for one in study.resolution],
        table={"file": results.path.name, "rows": results.num_rows, "scale": results.scale},
        runs={
            "compared": len(results.compare),
            "tuning": len(results.tune),
            "left_out": results.left_out[list(LEFT_OUT)].to_dict("records"),
        },
        comparisons=[comparison_body(one) for one in study.comparisons],
        multipliers=[multiplier_body(one) for one in study.multipliers],
        law_differences=[law_difference_body(one) for one in study.law_differences],
        table_sizes=_table_sizes(study.table_sizes),
        isoflops=_isoflops(study.isoflops),
        ablations=[
            {
                "family": group.family,
                "reference": group.reference,
                "ablations": [
                    {"series": one.series, "comparisons": [comparison_body(part) for part in one.comparisons]}
                    for one in group.ablations
                ],
            }
            for group in study.ablations
        ],
        knowledge=knowledge_json(study.knowledge),
        laws={key: curves_body(one) for key, one in study.curves.items()},
        no_laws=study.no_curves,
        mismatches=[_mismatch(one) for one in study.mismatches],
        learning_rates=[_learning_rate_choice(one) for one in study.learning_rates],
    )


def gains_of_study(study: Study) -> dict[str, Any]:
    """Only the comparisons and multipliers, as the verb `gain` gives them of a sweep."""
    return card_of(
        "gain",
        _Rows(study.results),
        _warnings(study),
        comparisons=[comparison_body(one) for one in study.comparisons],
        multipliers=[multiplier_body(one) for one in study.multipliers],
        law_differences=[law_difference_body(one) for one in study.law_differences],
    )


def laws_of_results(results: Results, curves: Curves) -> dict[str, Any]:
    """Only the laws along one axis, as the verb `fit` gives them of a sweep."""
    warnings = [CardWarning(code="law", text=text) for text in curves.warnings]
    return card_of("laws", _Rows(results), warnings, **curves_body(curves))


def _warnings(study: Study) -> list[CardWarning]:
    return [CardWarning(code="study", text=text) for text in study.warnings]


@dataclass(frozen=True)
class _Rows:
    """A results table as the head of a card."""

    results: Results

    @property
    def source(self) -> str:
        return str(self.results.path)

    @property
    def sha256(self) -> str:
        return self.results.sha256

    @property
    def exclusions(self) -> Sequence[Exclusion]:
        return [
            Exclusion(row=int(one["row"]), rule=str(one["status"]), reason=str(one["reason"]))
            for one in self.results.left_out.to_dict("records")
        ]

    @property
    def warnings(self) -> Sequence[str]:
        return ()

    def __len__(self) -> int:
        return len(self.results.compare)


def curves_body(curves: Curves) -> dict[str, Any]:
    """The laws of one axis: a fit card a family."""
    return {
        "x": curves.axis.column,
        "law": curves.law.name,
        "formula": curves.law.formula,
        "why": curves.why,
        "noise_log_loss": noise_body(curves.noise),
        "families": {label: _law(curve) for label, curve in curves.series.items()},
        "no_interval_because": curves.no_interval_because or None,
    }


def _law(curve: SeriesCurve) -> dict[str, Any]:
    law, replicates = curve.fit.law, curve.replicates
    drawn = {} if replicates is None else law.values(replicates)
    return {
        "coefficients": {
            name: {
                "value": finite(float(value[0])),
                "ci95": ends(percentile_interval(drawn[name]) if name in drawn else None),
            }
            for name, value in law.values(curve.fit.best).items()
        },
        "objective": "least squares on log loss",
        "n": curve.fit.num_runs,
        "budgets": curve.num_budgets,
        "range": [curve.lower_x, curve.upper_x],
    }


def _mismatch(one: Mismatch) -> dict[str, Any]:
    return {
        "what": one.words,
        "among": one.among,
        "mismatch": one.value,
        "budget": one.budget.name,
        "budget_flops": one.budget.flops,
        "smallest": one.smallest,
        "largest": one.largest,
    }


def _table_sizes(found: TableSizes | None) -> dict[str, Any] | None:
    """Loss and recall by table size, with the law of the loss."""
    if found is None:
        return None
    return {
        "curves": [
            {
                "key": curve.key,
                "series": curve.stem,
                "budget": curve.budget.name,
                "budget_flops": curve.budget.flops,
                "points": [
                    {
                        "series": point.series,
                        "num_slots": point.num_slots,
                        "seeds": point.num_seeds,
                        **{column: _slot_mean(mean) for column, mean in point.means.items()},
                    }
                    for point in curve.points
                ],
                "change": {column: _slot_mean(mean) for column, mean in curve.change.items()},
                "dense": [_dense_level(level) for level in curve.levels],
            }
            for curve in found.curves
        ],
        "laws": None if found.laws is None else curves_body(found.laws),
        "no_law_because": found.no_law or None,
    }


def _dense_level(level: DenseLevel) -> dict[str, Any]:
    """A dense model beside a curve over table sizes, and the slots at which the curve reaches it."""
    return {
        "budget": level.budget.name,
        "compute_multiple": level.multiple,
        "seeds": level.num_seeds,
        **{
            column: {
                "value": value,
                "ci95": ends(level.intervals[column]),
                "crossed_at_slots": level.crossings[column].slots,
                "crossed_at_slots_ci95": ends(level.crossings[column].interval),
                "verdict": level.crossings[column].verdict,
            }
            for column, value in level.means.items()
        },
    }


def _slot_mean(mean: TableSizeMean) -> dict[str, Any]:
    return {"value": mean.value, "ci95": ends(mean.interval)}


def _isoflops(found: IsoFlops | None) -> dict[str, Any] | None:
    """The sizes at each number of FLOPs, and the lowest of them."""
    if found is None:
        return None
    return {
        "size": found.column,
        "curves": [
            {
                "series": curve.series,
                "flops": curve.flops,
                "sizes": [
                    {
                        "budget": size.budget.name,
                        "params": size.params,
                        "loss_nats": size.loss,
                        "ci95": ends(size.interval),
                        "seeds": size.num_seeds,
                    }
                    for size in curve.sizes
                ],
                "lowest": curve.best.budget.name,
                "at_edge": curve.edge or None,
                "not_told_apart": [curve.sizes[index].budget.name for index in curve.near],
                "optimum": None if curve.optimum is None else minimum_json(curve.optimum),
            }
            for curve in found.curves
        ],
        "frontiers": {
            series: frontier_json(one, [max(curve.flops for curve in found.of(series))])
            for series, one in found.frontiers.items()
        },
        "no_frontier_because": found.no_frontier,
    }


def _learning_rate_choice(one: LearningRateChoice) -> dict[str, Any]:
    return {
        "family": one.family,
        "learning_rate": one.learning_rate,
        "table_factor": one.table_factor,
        "edges": list(one.edges),
        "note": one.note or None,
        "lead": None if one.lead is None else asdict(one.lead),
        "tuning_runs": [
            {
                "learning_rate": tried.learning_rate,
                "table_factor": tried.table_factor,
                "loss_nats": tried.loss,
                "round": tried.round,
                "seed": tried.seed,
            }
            for tried in one.tuning_runs
        ],
    }
