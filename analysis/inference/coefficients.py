"""Coefficients of a fit with their intervals, read off refits to resampled data.

An interval is the middle 80 or 95 % of the refits. It is opened to the parameter's bound on a side on which the bound
fits the data as well, and it is infinite for what the data do not determine at all: an interval of width zero, or one
that only shows where the solver happened to stop, is never returned.

Shapes: B replicates, P parameters, V coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis import formatting
from analysis.interval import ConfidenceInterval
from analysis.laws.law import Law

FloatArray = npt.NDArray[np.float64]

EVERYTHING = ConfidenceInterval(-math.inf, math.inf)


@dataclass(frozen=True, kw_only=True)
class Coefficient:
    """One parameter, or a quantity derived from parameters, as people write it."""

    name: str
    value: float
    se: float
    """Standard deviation over the refits; not a number where there are none."""
    ci80: ConfidenceInterval
    ci95: ConfidenceInterval
    at_bound: bool
    identified: bool
    """False where the data do not separate the coefficient from a bound or from another coefficient."""


def from_replicates(
    law: Law,
    theta_P: FloatArray,
    replicates_BP: FloatArray | None,
    *,
    fixed: Sequence[str],
    at_bound: frozenset[str],
    unidentified_sides: Mapping[str, tuple[bool, bool]],
    undetermined: frozenset[str],
) -> tuple[Coefficient, ...]:
    """Every parameter, then every derived quantity. Without replicates all intervals are infinite."""
    values = {name: float(value[0]) for name, value in law.values(theta_P[None, :]).items()}
    replicated = None if replicates_BP is None else law.values(replicates_BP)
    weak = {name for name in law.names if name in at_bound or any(unidentified_sides.get(name, ()))} | undetermined
    found = []
    for name, value in values.items():
        needs = _needs(law, theta_P, name)
        if needs <= set(fixed):  # fixed, or a constant whatever the parameters (a of two tied exponents)
            held = ConfidenceInterval(value, value)
            found.append(Coefficient(name=name, value=value, se=0.0, ci80=held, ci95=held, at_bound=False,
                                     identified=True))  # fmt: skip
            continue
        lost = replicated is None or bool(needs & undetermined)
        replicates_B = None if lost or replicated is None else replicated[name]
        sides = unidentified_sides.get(name, (False, False))
        found.append(
            Coefficient(
                name=name,
                value=value,
                se=math.nan if replicates_B is None else float(replicates_B.std(ddof=1)),
                ci80=_interval(law, name, replicates_B, sides, 0.8),
                ci95=_interval(law, name, replicates_B, sides, 0.95),
                at_bound=name in at_bound,
                identified=replicates_B is not None and not needs & weak,
            )
        )
    return tuple(found)


def _interval(
    law: Law, name: str, replicates_B: FloatArray | None, sides: tuple[bool, bool], level: float
) -> ConfidenceInterval:
    if replicates_B is None or not np.isfinite(replicates_B).all():
        return EVERYTHING
    lower, upper = (float(end) for end in np.quantile(replicates_B, [0.5 - level / 2.0, 0.5 + level / 2.0]))
    if name in law.names:
        parameter = law.parameters[law.index(name)]
        lower = parameter.lower if sides[0] else lower
        upper = parameter.upper if sides[1] else upper
    return ConfidenceInterval(lower, upper) if upper > lower else EVERYTHING


def _needs(law: Law, theta_P: FloatArray, name: str) -> set[str]:
    """The parameters that a coefficient rests on: itself, or those its formula moves with."""
    if name in law.names:
        return {name}
    step_P = 1e-6 * np.maximum(1.0, np.where(np.isfinite(theta_P), np.abs(theta_P), 1.0))
    around_2P = np.concatenate([theta_P + np.diag(step_P), theta_P - np.diag(step_P)])
    value_2P = law.values(around_2P)[name]
    num = len(theta_P)
    moves_P = value_2P[:num] != value_2P[num:]
    return {parameter for parameter, moves in zip(law.names, moves_P, strict=True) if moves}


def lines(law: Law, coefficients: Sequence[Coefficient], fixed: Sequence[str]) -> list[str]:
    """A line each for a terminal: name, value, 95 % interval, what to be careful about, meaning."""
    meanings = {one.name: one.meaning for one in law.parameters} | {one.name: one.formula for one in law.derived}
    meanings |= {alias: f"tied to {target}" for alias, target in law.tied.items()}
    width = max(len(name) for name in meanings)
    rows = []
    for one in coefficients:
        marks = " (fixed)" if one.name in fixed else " (at its bound)" if one.at_bound else ""
        marks += "" if one.identified or one.at_bound else " (not identified)"
        ends = "" if one.name in fixed else f"[{_number(one.ci95.lower)}, {_number(one.ci95.upper)}]"
        rows.append(f"  {one.name:<{width}}  {_number(one.value):>9}  {ends:<24}{marks} {meanings[one.name]}".rstrip())
    return rows


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    if not math.isfinite(value):
        return "inf" if value > 0 else f"{formatting.MINUS}inf"
    return formatting.significant(value, 4)
