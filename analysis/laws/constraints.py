"""A law with other bounds, with coefficients held at values, or with one coefficient tied to another.

Decides that every value a person fixes is checked against the parameter's bounds before anything is fitted, so that a
value outside them is an error that names them. An amplitude (a parameter that scales a term of its own) may be fixed
at 0, which takes its term out of the law. A tie removes a coefficient from the law and puts the other in its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from analysis.errors import FitError
from analysis.laws.law import FloatArray, Law


def bounded(law: Law, bounds: Mapping[str, tuple[float, float]]) -> Law:
    """The law with other bounds of some parameters. Raises FitError where a bound is no number or out of order."""
    for name, (lower, upper) in bounds.items():
        index = law.index(name)
        if not lower < upper:
            raise FitError(f"bounds of {name} must be a lower and a higher number; given {lower:g}, {upper:g}")
        if law.parameters[index].log and lower <= 0:
            raise FitError(f"{name} of law {law.name} is above zero: its lower bound must be too; given {lower:g}")
        changed = replace(law.parameters[index], lower=lower, upper=upper)
        law = replace(law, parameters=(*law.parameters[:index], changed, *law.parameters[index + 1 :]))
    return law


def held(law: Law, fix: Mapping[str, float]) -> Law:
    """The law whose parameters in `fix` have one value only.

    Raises:
        FitError: The law has no such parameter, or the value is no number or lies outside its bounds.
    """
    if not isinstance(fix, Mapping) or not all(isinstance(value, int | float | np.number) for value in fix.values()):
        raise FitError(f"fix needs a number for each name, such as fix={{'E': 1.8}}; given {fix!r}")
    for name, value in fix.items():
        index = law.index(name)
        parameter = law.parameters[index]
        is_amplitude = parameter.log and name in law.linear and law.linear_in == "value" and law.gives == "log"
        if value == 0 and is_amplitude:
            pass
        elif not (math.isfinite(value) and parameter.lower <= value <= parameter.upper):
            none = ", or 0 for none" if is_amplitude else ""
            raise FitError(
                f"{name} = {value:g} cannot be fixed: {name} of law {law.name} ({law.formula}) lies between"
                f" {parameter.lower:g} and {parameter.upper:g}{none}"
            )
        changed = replace(parameter, lower=value, upper=value)
        law = replace(law, parameters=(*law.parameters[:index], changed, *law.parameters[index + 1 :]))
    return law


def tied(law: Law, tie: Mapping[str, str]) -> Law:
    """The law in which each coefficient named by a key of `tie` has the value of the coefficient that it names.

    The bounds of the two are those that both allow. Raises FitError for a coefficient that the law does not have, for
    two that are of different kinds (an exponent and an amplitude), and for a coefficient tied twice or to itself.

    Example:
        >>> from analysis.laws.registry import LAWS
        >>> tied(LAWS["chinchilla"], {"alpha": "beta"}).names
        ('A', 'B', 'E', 'beta')
    """
    for alias, target in tie.items():
        law = _tied(law, alias, target)
    return law


def _tied(law: Law, alias: str, target: str) -> Law:
    out, kept = law.index(alias), law.index(target)
    if out == kept:
        raise FitError(f"{alias} cannot be tied to itself; name two coefficients of law {law.name}")
    one, other = law.parameters[out], law.parameters[kept]
    if one.log != other.log or (alias in law.linear) != (target in law.linear):
        raise FitError(
            f"{alias} ({one.meaning}) and {target} ({other.meaning}) of law {law.name} are of different kinds and"
            " cannot be tied"
        )
    lower, upper = max(one.lower, other.lower), min(one.upper, other.upper)
    if not lower < upper:
        raise FitError(f"{alias} and {target} of law {law.name} cannot be tied: no value lies in the bounds of both")
    parameters = list(law.parameters)
    parameters[kept] = replace(other, lower=lower, upper=upper)
    del parameters[out]
    starts = law.starts

    def without_alias(columns: Mapping[str, FloatArray], loss_N: FloatArray) -> FloatArray:
        assert starts is not None
        found: FloatArray = np.delete(starts(columns, loss_N), out, axis=1)
        return found

    return replace(
        law,
        parameters=tuple(parameters),
        linear=tuple(name for name in law.linear if name != alias),
        starts=None if starts is None else without_alias,
        tied={**{name: target if at == alias else at for name, at in law.tied.items()}, alias: target},
    )
