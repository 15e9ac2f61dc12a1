"""The options of a fit, which every verb that fits a law shares; each verb uses all that it takes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import TypedDict

from analysis.errors import FitError
from analysis.solver.objective import DEFAULT_DELTA, OBJECTIVES


class FitChoices(TypedDict):
    """The keywords of `analysis.fitting.fit` that the options give."""

    objective: str
    delta: float | None
    fix: dict[str, float]
    tie: dict[str, str]
    bootstrap: int | None
    seed: int


def add_fit(parser: argparse.ArgumentParser, *, several_laws: bool = False) -> None:
    """Add the options that `choices` reads; verbs that fit several laws at once have no --fix and --tie."""
    group = parser.add_argument_group("the fit")
    group.add_argument("--objective", choices=tuple(OBJECTIVES), default="log_huber", help="default log_huber")
    group.add_argument("--delta", type=float, metavar="D", help=f"of a Huber objective (default {DEFAULT_DELTA:g})")
    if not several_laws:
        group.add_argument(
            "--fix", metavar="NAME=VALUE", action="append", default=[], help="hold a coefficient at a value (0: none)"
        )
        group.add_argument(
            "--tie", metavar="NAME=NAME", action="append", default=[], help="give a coefficient another's value"
        )
    group.add_argument(
        "--bootstrap",
        type=int,
        metavar="B",
        help="refits to resampled rows for the intervals, such as 4000 (default: 1,000 to resampled residuals, or to"
        " resampled groups of --cluster)",
    )
    group.add_argument("--seed", type=int, default=0, help="of the resampling (default 0)")


def choices(chosen: argparse.Namespace) -> FitChoices:
    """The fit's keywords. Raises FitError for an option that cannot be read."""
    if chosen.bootstrap is not None and chosen.bootstrap < 1:
        raise FitError(f"--bootstrap {chosen.bootstrap}: give a number of refits, such as 4000, or leave it out")
    return FitChoices(
        objective=chosen.objective,
        delta=chosen.delta,
        fix=fixed(getattr(chosen, "fix", [])),
        tie=tied(getattr(chosen, "tie", [])),
        bootstrap=chosen.bootstrap,
        seed=chosen.seed,
    )


def fixed(given: list[str]) -> dict[str, float]:
    """Of --fix NAME=VALUE. Raises FitError."""
    found: dict[str, float] = {}
    for one in given:
        name, equals, value = one.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not equals or not name or not math.isfinite(number):
            raise FitError(f"--fix {one}: write it as NAME=NUMBER, such as --fix E=1.8")
        _once(found, name, "--fix")
        found[name] = number
    return found


def tied(given: list[str]) -> dict[str, str]:
    """Of --tie NAME=NAME. Raises FitError."""
    found: dict[str, str] = {}
    for one in given:
        name, equals, target = one.partition("=")
        if not equals or not name or not target:
            raise FitError(f"--tie {one}: write it as NAME=NAME, such as --tie alpha=beta")
        _once(found, name, "--tie")
        found[name] = target
    return found


def _once(found: Mapping[str, object], name: str, option: str) -> None:
    if name in found:
        raise FitError(f"{option} {name} is given twice")
