"""Numbers that carry their exact first and second derivatives by a law's parameters.

Decides that a law is written once, as a formula on these numbers; prediction, gradient and Hessian all come from that
one formula. A jet keeps only derivatives that are not zero, so a formula evaluated on plain values costs no more than
NumPy. It also knows whether it is affine in the parameters with coefficients that depend on the data alone: the log
of a sum of powers is `log_sum` of affine jets, which the solver recognises and evaluates by matrix products.

Forward-mode differentiation to second order (Griewank and Walther 2008, chapter 13); of an implicit function by the
implicit function theorem. Shapes: B replicates, N runs; a parameter is [B, 1], a column [1, N].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import expit

FloatArray = npt.NDArray[np.float64]
First = dict[int, FloatArray]
Second = dict[tuple[int, int], FloatArray]
Key = TypeVar("Key", int, tuple[int, int])

_ONE = np.ones((1, 1))
_IMPLICIT = -1
"""The index of the unknown of an implicit equation while it is being solved; parameters count from 0."""


class Jet:
    """A value [B, N] with its derivatives by parameter number, and by pairs of them (the smaller number first)."""

    __slots__ = ("affine", "first", "second", "terms", "value")
    __array_ufunc__ = None  # An array on the left leaves the operation to the jet.

    def __init__(
        self,
        value: FloatArray,
        first: First | None = None,
        second: Second | None = None,
        *,
        affine: bool = False,
        terms: tuple[Jet, ...] = (),
    ) -> None:
        self.value = value
        self.first: First = {} if first is None else first
        self.second: Second = {} if second is None else second
        self.affine = affine
        """Linear in the parameters up to a constant, both known from the data alone."""
        self.terms = terms
        """The affine jets whose `log_sum` this is; empty where it is anything else."""

    def __add__(self, other: Jet | float) -> Jet:
        other = as_jet(other)
        first = _sum(self.first, other.first)
        return Jet(
            self.value + other.value, first, _sum(self.second, other.second), affine=self.affine and other.affine
        )

    def __radd__(self, other: float) -> Jet:
        return self + other

    def __neg__(self) -> Jet:
        return self._scaled(-_ONE, self.affine)

    def __sub__(self, other: Jet | float) -> Jet:
        return self + (-as_jet(other))

    def __rsub__(self, other: float) -> Jet:
        return -self + other

    def __mul__(self, other: Jet | float) -> Jet:
        other = as_jet(other)
        if not other.first:
            return self._scaled(other.value, self.affine and other.affine)
        if not self.first:
            return other._scaled(self.value, self.affine and other.affine)
        first = _sum(
            {i: g * other.value for i, g in self.first.items()}, {i: g * self.value for i, g in other.first.items()}
        )
        second = _sum(
            {ij: h * other.value for ij, h in self.second.items()},
            {ij: h * self.value for ij, h in other.second.items()},
        )
        cross: Second = {}
        for i, left in self.first.items():
            for j, right in other.first.items():
                product = left * right
                _add(cross, (i, j) if i < j else (j, i), 2.0 * product if i == j else product)
        return Jet(self.value * other.value, first, _sum(second, cross))

    def __rmul__(self, other: float) -> Jet:
        return self * other

    def __truediv__(self, other: Jet | float) -> Jet:
        return self * as_jet(other)._reciprocal()

    def __rtruediv__(self, other: float) -> Jet:
        return self._reciprocal() * other

    def exp(self) -> Jet:
        """e^x."""
        value = np.exp(self.value)
        return self.through(value, value, value)

    def log(self) -> Jet:
        """Natural logarithm."""
        inverse = 1.0 / self.value
        return self.through(np.log(self.value), inverse, -inverse * inverse)

    def log1p(self) -> Jet:
        """Logarithm of 1 + x, exact near 0."""
        inverse = 1.0 / (1.0 + self.value)
        return self.through(np.log1p(self.value), inverse, -inverse * inverse)

    def expm1(self) -> Jet:
        """The exponential less 1, exact near 0."""
        slope = np.exp(self.value)
        return self.through(np.expm1(self.value), slope, slope)

    def softplus(self) -> Jet:
        """ln(1 + e^x), exact at both ends."""
        slope = expit(self.value)
        return self.through(np.logaddexp(0.0, self.value), slope, slope * expit(-self.value))

    def through(self, value: FloatArray, slope: FloatArray, bend: FloatArray) -> Jet:
        """A function of this jet, given its value and its first two derivatives here."""
        if not self.first:
            return Jet(value, affine=self.affine)
        indices = sorted(self.first)
        second = {ij: slope * h for ij, h in self.second.items()}
        for at, i in enumerate(indices):
            bent = bend * self.first[i]
            for j in indices[at:]:
                _add(second, (i, j), bent * self.first[j])
        return Jet(value, {i: slope * g for i, g in self.first.items()}, second)

    def _scaled(self, factor: FloatArray, affine: bool) -> Jet:
        return Jet(
            self.value * factor,
            {i: g * factor for i, g in self.first.items()},
            {ij: h * factor for ij, h in self.second.items()},
            affine=affine,
        )

    def _reciprocal(self) -> Jet:
        inverse = 1.0 / self.value
        square = inverse * inverse
        return self.through(inverse, -square, 2.0 * square * inverse)


def as_jet(number: Jet | float) -> Jet:
    """A number as a jet without derivatives; a jet as it is."""
    return number if isinstance(number, Jet) else Jet(np.full((1, 1), float(number)), affine=True)


def column(value_N: FloatArray) -> Jet:
    """Data: no derivatives."""
    return Jet(np.asarray(value_N, dtype=np.float64)[None, :], affine=True)


def parameter(value_B: FloatArray, index: int | None) -> Jet:
    """A parameter with its number; without one it is a plain value, and the formula gives no derivatives."""
    value_B1 = np.asarray(value_B, dtype=np.float64)[:, None]
    return Jet(value_B1) if index is None else Jet(value_B1, {index: _ONE}, affine=True)


def log_sum(*terms: Jet | float) -> Jet:
    """Ln of the sum of the terms' exponentials; a term at minus infinity adds nothing."""
    jets = tuple(as_jet(term) for term in terms)
    top = jets[0].value
    for jet in jets[1:]:
        top = np.maximum(top, jet.value)
    top = np.where(np.isfinite(top), top, 0.0)
    shares = [np.exp(jet.value - top) for jet in jets]
    total = shares[0]
    for share in shares[1:]:
        total = total + share
    with np.errstate(divide="ignore"):
        value = top + np.log(total)
    if not any(jet.first for jet in jets):
        return Jet(value)
    first: First = {}
    second: Second = {}
    for jet, share in zip(jets, shares, strict=True):
        weight = share / total
        for ij, h in jet.second.items():
            _add(second, ij, weight * h)
        indices = sorted(jet.first)
        for at, i in enumerate(indices):
            weighted = weight * jet.first[i]
            _add(first, i, weighted)
            for j in indices[at:]:
                _add(second, (i, j), weighted * jet.first[j])
    indices = sorted(first)
    for at, i in enumerate(indices):
        for j in indices[at:]:
            _add(second, (i, j), -first[i] * first[j])
    return Jet(value, first, second, terms=jets if all(jet.affine for jet in jets) else ())


def solve_rising(equation: Callable[[Jet], Jet], guess: FloatArray) -> Jet:
    """The y at which `equation(y)` is 0, with its derivatives.

    `equation` must rise with y and have no inflection between the root and the guess: Newton's method then comes from
    one side and cannot miss.
    """
    y = np.asarray(guess, dtype=np.float64)
    for _ in range(60):
        at = equation(Jet(y, {_IMPLICIT: _ONE}))
        step = at.value / at.first[_IMPLICIT]
        y = y - step
        if not np.any(np.abs(step) > 1e-14 * (1.0 + np.abs(y))):
            break
    at = equation(Jet(y, {_IMPLICIT: _ONE}))
    slope = at.first[_IMPLICIT]
    # y_i = -F_i / F_y;  y_ij = -(F_ij + F_iy y_j + F_jy y_i + F_yy y_i y_j) / F_y
    first = {i: -g / slope for i, g in at.first.items() if i != _IMPLICIT}
    second: Second = {}
    indices = sorted(first)
    bend = at.second.get((_IMPLICIT, _IMPLICIT), np.zeros((1, 1)))
    for where, i in enumerate(indices):
        for j in indices[where:]:
            total = bend * first[i] * first[j]
            for pair, factor in (((_IMPLICIT, i), first[j]), ((_IMPLICIT, j), first[i])):
                if pair in at.second:
                    total = total + at.second[pair] * factor
            if (i, j) in at.second:
                total = total + at.second[(i, j)]
            second[(i, j)] = -total / slope
    return Jet(y, first, second)


def _add(into: dict[Key, FloatArray], key: Key, value: FloatArray) -> None:
    into[key] = into[key] + value if key in into else value


def _sum(left: Mapping[Key, FloatArray], right: Mapping[Key, FloatArray]) -> dict[Key, FloatArray]:
    total = dict(left)
    for key, value in right.items():
        _add(total, key, value)
    return total
