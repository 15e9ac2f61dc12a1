"""A gain as plain JSON: the same keys from the verb and inside the report of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.card import CardWarning, card, ends, finite
from analysis.gains.differences import Comparison, Difference
from analysis.gains.gain import Gain
from analysis.gains.multipliers import LawDifference, Multiplier
from analysis.gains.of_table import Gains
from analysis.inference.replicate_noise import Noise


def gains_card(found: Sequence[Gains]) -> dict[str, Any]:
    """The card of one pair along one or more axes of a table."""
    first = found[0]
    texts = list(dict.fromkeys(text for one in found for text in one.warnings))
    return card(
        "gain",
        _Rows(first),
        [CardWarning(code="gain", text=text) for text in texts],
        of=first.subject,
        over=first.baseline,
        gains=[gain_body(one) for one in found],
    )


def gain_body(found: Gain) -> dict[str, Any]:
    """One axis."""
    noise = found.curves.noise
    return {
        "axis": found.axis.key,
        "law": found.curves.law.formula,
        "why": found.curves.why,
        "noise_log_loss": noise_body(noise),
        "no_interval_because": found.curves.no_interval_because or None,
        "multipliers": [{**multiplier_body(one), "statement": found.statement(one)} for one in found.multipliers],
        "law_differences": [law_difference_body(one) for one in found.law_differences],
        "comparison": None if found.differences is None else comparison_body(found.differences),
    }


def comparison_body(one: Comparison) -> dict[str, Any]:
    """Differences of one pair in one measure."""
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
        "seeds": one.num_seeds,
        "noise": noise_body(one.noise),
        "noise_without_seed": noise_body(one.paired_noise),
        "no_interval_because": one.no_interval_because or None,
    }


def multiplier_body(one: Multiplier) -> dict[str, Any]:
    """One compute (time, parameters) multiplier, or its refusal."""
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


def law_difference_body(one: LawDifference) -> dict[str, Any]:
    """A difference in loss by the laws."""
    return {
        "subject": one.subject,
        "baseline": one.baseline,
        "axis": one.axis,
        "at": one.at,
        "loss_nats": one.value,
        "ci95": ends(one.interval),
    }


def noise_body(noise: Noise | None) -> dict[str, Any] | None:
    """Standard deviation of one run, its degrees of freedom, and what it was estimated from."""
    return None if noise is None else {"std": noise.std, "degrees": noise.degrees, "source": noise.source}


def _difference(one: Difference, lower_is_better: bool) -> dict[str, Any]:
    return {
        "budget_flops": one.budget_flops,
        "value": one.value,
        "ci95": ends(one.interval),
        "standard_error": None if one.noise is None else one.noise.std,
        "degrees": None if one.noise is None else one.noise.degrees,
        "level": None if one.noise is None else one.noise.level,
        "percent": finite(one.percent),
        "percent_ci95": ends(one.percent_interval),
        "verdict": one.verdict(lower_is_better),
    }


class _Rows:
    """The table of a gain as the head of a card; its warnings are among the gain's."""

    def __init__(self, found: Gains) -> None:
        self.source, self.sha256, self.exclusions = found.source, found.sha256, found.exclusions
        self.warnings: tuple[str, ...] = ()
        self._num = len(found)

    def __len__(self) -> int:
        return self._num
