"""The study as plain JSON: every number of the report, for machines. Infinite ends of intervals become null.

`FORMAT` is raised when a key changes its meaning; new keys may appear at any time.
"""

from __future__ import annotations

import json
import math
from typing import Any

from analysis.gains.differences import Comparison, Difference, LawDifference, Multiplier
from analysis.gains.scaling_curves import Curves, SeriesCurve
from analysis.inference.replicate_noise import Noise, percentile_interval
from analysis.interval import ConfidenceInterval
from analysis.report.headline import headline
from analysis.sweep.learning_rates import Tuned
from analysis.sweep.matching import Gap
from analysis.sweep.model_size import IsoFlops
from analysis.sweep.study import Study
from analysis.sweep.table_size import BySlots, SlotMean

FORMAT = 1
LEFT_OUT = ("row", "name", "stage", "family", "series", "status", "budget", "budget_flops", "seed", "reason")
"""Columns of a row that carries no part of the answer."""


def card(study: Study, *, question: str, sweep: str) -> dict[str, Any]:
    """The whole study as a JSON object."""
    results = study.results
    answer = headline(study)
    return {
        "format": FORMAT,
        "sweep": sweep,
        "question": question,
        "answer": {"sentence": answer.sentence, "verdict": answer.verdict, "details": list(answer.details)},
        "table": {
            "file": results.path.name,
            "sha256": results.sha256,
            "rows": results.num_rows,
            "scale": results.scale,
        },
        "runs": {
            "compared": len(results.compare),
            "tuning": len(results.tune),
            "left_out": results.left_out[list(LEFT_OUT)].to_dict("records"),
        },
        "comparisons": [comparison_card(one) for one in study.comparisons],
        "multipliers": [multiplier_card(one) for one in study.multipliers],
        "law_differences": [_law_difference(one) for one in study.law_differences],
        "slots": _slots(study.slots),
        "isoflops": _isoflops(study.isoflops),
        "variants": [
            {
                "family": group.family,
                "reference": group.reference,
                "variants": [
                    {"series": one.series, "comparisons": [comparison_card(part) for part in one.comparisons]}
                    for one in group.variants
                ],
            }
            for group in study.variants
        ],
        "laws": {key: curves_card(one) for key, one in study.curves.items()},
        "no_laws": study.no_curves,
        "matched": [_gap(one) for one in study.gaps],
        "tuning": [_tuned(one) for one in study.tuned],
        "warnings": list(study.warnings),
    }


def text(content: dict[str, Any]) -> str:
    """The JSON as it is written; not-a-number and infinity are refused, for they are no JSON."""
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def ends(interval: ConfidenceInterval | None) -> list[float | None] | None:
    """An interval as [lower, upper], null at an infinite end."""
    return None if interval is None else [finite(interval.lower), finite(interval.upper)]


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def comparison_card(one: Comparison) -> dict[str, Any]:
    """One pair in one measure."""
    lower = one.measure.lower_is_better
    return {
        "subject": one.subject,
        "baseline": one.baseline,
        "measure": one.measure.column,
        "unit": one.measure.unit,
        "lower_is_better": lower,
        "largest_budget": _difference(one.largest, lower),
        "overall": _difference(one.overall, lower),
        "budgets": [_difference(difference, lower) for difference in one.at_budgets],
        "noise": _noise(one.noise),
        "no_interval_because": one.no_interval_because or None,
    }


def multiplier_card(one: Multiplier) -> dict[str, Any]:
    """One compute (or time) multiplier, or its refusal."""
    return {
        "subject": one.subject,
        "baseline": one.baseline,
        "axis": one.axis,
        "at": one.at,
        "value": finite(one.value),
        "ci95": ends(one.interval),
        "refused_because": one.refusal or None,
        "note": one.note or None,
    }


def curves_card(curves: Curves) -> dict[str, Any]:
    """The laws of one axis: a fit card a family."""
    return {
        "x": curves.axis.column,
        "law": curves.law.name,
        "formula": curves.law.formula,
        "why": curves.why,
        "noise_log_loss": _noise(curves.noise),
        "families": {label: _law(curve) for label, curve in curves.series.items()},
        "warnings": list(curves.warnings),
    }


def _law(curve: SeriesCurve) -> dict[str, Any]:
    point = curve.point
    values = point.law.values(point.best)
    pooled = {} if curve.replicates is None else point.law.values(curve.replicates)
    resampled = {} if curve.bootstrap is None else point.law.values(curve.bootstrap)
    return {
        "coefficients": {
            name: {
                "value": finite(float(value[0])),
                "ci95": ends(percentile_interval(pooled[name]) if name in pooled else None),
                "bootstrap_ci95": ends(percentile_interval(resampled[name]) if name in resampled else None),
                "at_bound": name in point.fit.at_bound,
            }
            for name, value in values.items()
        },
        "objective": {"name": "least squares on log loss", "value": point.fit.value},
        "starts": {"num": point.fit.starts.num, "share_at_best": point.fit.starts.share_at_best},
        "n": point.num_runs,
        "budgets": curve.num_budgets,
        "range": [curve.lower_x, curve.upper_x],
    }


def _difference(one: Difference, lower_is_better: bool) -> dict[str, Any]:
    return {
        "budget_flops": one.budget_flops,
        "value": one.value,
        "ci95": ends(one.interval),
        "percent": finite(one.percent),
        "percent_ci95": ends(one.percent_interval),
        "verdict": one.verdict(lower_is_better),
    }


def _gap(one: Gap) -> dict[str, Any]:
    return {
        "what": one.words,
        "among": one.among,
        "gap": one.gap,
        "budget": one.budget.name,
        "budget_flops": one.budget.flops,
        "smallest": one.smallest,
        "largest": one.largest,
    }


def _law_difference(one: LawDifference) -> dict[str, Any]:
    return {
        "subject": one.subject,
        "baseline": one.baseline,
        "axis": one.axis,
        "at": one.at,
        "loss_nats": one.value,
        "ci95": ends(one.interval),
    }


def _slots(found: BySlots | None) -> dict[str, Any] | None:
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
            }
            for curve in found.curves
        ],
        "laws": None if found.laws is None else curves_card(found.laws),
        "no_law_because": found.no_law or None,
    }


def _slot_mean(mean: SlotMean) -> dict[str, Any]:
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
            }
            for curve in found.curves
        ],
    }


def _noise(noise: Noise | None) -> dict[str, Any] | None:
    return None if noise is None else {"std": noise.std, "degrees": noise.degrees, "source": noise.source}


def _tuned(one: Tuned) -> dict[str, Any]:
    return {
        "family": one.family,
        "learning_rate": one.learning_rate,
        "table_factor": one.table_factor,
        "edges": list(one.edges),
        "note": one.note or None,
        "tried": [
            {"learning_rate": tried.learning_rate, "table_factor": tried.table_factor, "loss_nats": tried.loss}
            for tried in one.tried
        ],
    }
