"""A fit as JSON with all digits, and as a few lines of text with the digits that the intervals support.

In JSON, infinite ends of intervals are null, and each row left out is listed with the rule that left it out.
"""

from __future__ import annotations

import math
from typing import Any

from analysis import formatting
from analysis.allocation.parametric import Allocation
from analysis.card import card, ends, finite
from analysis.inference.coefficients import Coefficient
from analysis.inference.result import Fit
from analysis.tables import Observations


def as_json(fit: Fit, observations: Observations, allocations: tuple[Allocation, ...] = ()) -> dict[str, Any]:
    """The card of kind 'fit': the common head of cards, the rows and columns read, and `body`."""
    return card(
        "fit",
        observations,
        (warning for warning in fit.warnings if warning.code != "table"),
        rows=observations.num_rows,
        columns=dict(observations.column_names),
        settings=observations.num_settings,
        replicated_settings=observations.num_replicated,
        **body(fit, allocations),
    )


def body(fit: Fit, allocations: tuple[Allocation, ...] = ()) -> dict[str, Any]:
    """A fit without the head of a card: coefficients, objective, starts, intervals, compute-optimal allocations."""
    held_out = None if fit.table is None else fit.table.held_out
    return {
        "law": fit.law.name,
        "formula": fit.law.formula,
        "law_source": fit.law.source,
        "fitted": fit.num_points,
        "coefficients": {one.name: _coefficient(one) for one in fit.coefficients},
        "fixed": list(fit.fixed),
        "tied": dict(fit.law.tied),
        "objective": {"name": fit.objective.name, "delta": fit.objective.delta, "value": fit.value},
        "scale": None if fit.log_scale is None else math.exp(fit.log_scale),
        "starts": {"num": fit.starts.num, "share_at_best": fit.starts.share_at_best},
        "local_optima": [
            {
                "coefficients": {name: finite(value) for name, value in optimum.values.items()},
                "objective": optimum.objective,
                "share": optimum.share,
            }
            for optimum in fit.local_optima
        ],
        "intervals": _intervals(fit),
        "held_out": None
        if held_out is None
        else {
            "n": held_out.num_points,
            "rms": finite(held_out.rms),
            "in_run_interval": finite(held_out.in_run_interval),
        },
        "allocation": None if not allocations else _allocation(fit, allocations),
        "seconds": fit.seconds,
    }


def _coefficient(one: Coefficient) -> dict[str, Any]:
    return {
        "value": finite(one.value),
        "se": finite(one.se),
        "ci80": ends(one.ci80),
        "ci95": ends(one.ci95),
        "at_bound": one.at_bound,
        "identified": one.identified,
    }


def _intervals(fit: Fit) -> dict[str, Any] | None:
    """The method of the intervals; None where there are none."""
    replicates = fit.interval_replicates
    if replicates is None:
        return None
    return {
        "method": replicates.method,
        "refits": len(replicates.theta),
        "cluster": replicates.cluster,
        "seed": replicates.seed,
        "share_converged": replicates.share_converged,
    }


def _allocation(fit: Fit, allocations: tuple[Allocation, ...]) -> dict[str, Any]:
    exponents = {one.name: one for one in fit.coefficients if one.name in ("a", "b") and fit.law.name == "chinchilla"}
    return {
        "convention": "C = 6 N D",
        **{name: _coefficient(one) for name, one in exponents.items()},
        "optima": [
            {
                "flops": one.flops,
                "params": one.params,
                "params_ci95": ends(one.params_ci95),
                "tokens": one.tokens,
                "tokens_ci95": ends(one.tokens_ci95),
                "tokens_per_param": one.tokens / one.params,
                "extrapolation": one.extrapolation,
            }
            for one in allocations
        ],
    }


def as_text(fit: Fit, allocations: tuple[Allocation, ...] = (), none_because: str = "") -> str:
    """The fit's summary, the compute-optimal allocations or why there are none, and the seconds it took."""
    lines = [fit.summary()]
    if allocations:
        lines += ["", "compute-optimal allocation of C = 6 N D:", *(_allocation_line(one) for one in allocations)]
    elif none_because:
        lines += ["", none_because]
    return "\n".join([*lines, "", f"{formatting.significant(fit.seconds)} s"])


def _allocation_line(one: Allocation) -> str:
    def between(interval: tuple[float, float] | None) -> str:
        return "" if interval is None else f" [{formatting.count(interval[0])}, {formatting.count(interval[1])}]"

    beyond = f"  ({one.extrapolation:.3g} times the greatest at hand)" if one.extrapolation > 1.0 + 1e-9 else ""
    return (
        f"  {formatting.power(one.flops)} FLOPs: N {formatting.count(one.params)}{between(one.params_ci95)}, "
        f"D {formatting.count(one.tokens)}{between(one.tokens_ci95)}, "
        f"{formatting.significant(one.tokens / one.params)} tokens per parameter{beyond}"
    )
