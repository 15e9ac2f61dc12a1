"""The JSON of compute-optimal allocations, which the verb `isoflop` and the report of a sweep share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.allocation.approaches import Approaches
from analysis.allocation.frontier import ComputeOptimalFrontier, IsoFlopMinimum, PowerFit
from analysis.allocation.isoflop import IsoFlopFrontier
from analysis.card import card, ends
from analysis.report import fit_json
from analysis.tables import Observations


def isoflop_card(found: Approaches, observations: Observations) -> dict[str, Any]:
    """The card of `analysis isoflop`: all approaches with every minimum, and the law's own card."""
    frontiers = (*found.frontiers, *found.other_methods)
    law = {} if found.law is None else {"3 (law)": fit_json.body(found.law, found.allocations)}
    return card(
        "isoflop", observations, found.warnings,
        method=None if found.isoflop is None else found.isoflop.method,
        approaches={**{one.approach: frontier_json(one, found.flops) for one in frontiers}, **law},
        missing=found.missing,
    )  # fmt: skip


def frontier_json(frontier: ComputeOptimalFrontier, flops: Sequence[float]) -> dict[str, Any]:
    """Both power laws, the optimum at each of `flops`, and every minimum."""
    noise = frontier.noise if isinstance(frontier, IsoFlopFrontier) else None
    return {
        "a": _power(frontier.params),
        "b": _power(frontier.tokens),
        "noise": noise and {"std": noise.std.tolist(), "degrees": noise.degrees, "source": noise.source},
        "optima": [
            {
                "flops": one,
                "params": frontier.params.at(one),
                "params_ci95": ends(frontier.params.interval_at(one)),
                "tokens": frontier.tokens.at(one),
                "tokens_ci95": ends(frontier.tokens.interval_at(one)),
            }
            for one in flops
        ],
        "minima": [minimum_json(one) for one in frontier.minima],
    }


def minimum_json(one: IsoFlopMinimum) -> dict[str, Any]:
    """The minimum of one budget; `left_out` is why the frontier does not use it."""
    return {
        "flops": one.flops,
        "params": one.params,
        "params_ci95": ends(one.params_ci95),
        "tokens": one.tokens,
        "tokens_ci95": ends(one.tokens_ci95),
        "loss": one.loss,
        "points": one.num_points,
        "left_out": one.reason or None,
    }


def _power(line: PowerFit) -> dict[str, Any]:
    return {
        "exponent": line.exponent,
        "exponent_ci95": ends(line.exponent_ci95),
        "log10_intercept": line.intercept,
        "interval_from": line.interval_from,
    }
