"""What a law is: one declaration of its formula, its parameters with bounds, the columns it reads, and its source.

Decides that everything else (prediction, derivatives, starting points, the tables of a report) is derived from the
declaration, so that a new law is one `Law(...)` and nothing more. A parameter marked `log` is moved and bounded by the
solver as its logarithm and reported as itself. Refuses a table that lacks a column the law reads, or has values that
the law cannot take there.

Shapes: B replicates, N runs, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from analysis import formatting
from analysis.errors import FitError
from analysis.laws import autodiff
from analysis.laws.autodiff import Jet

FloatArray = npt.NDArray[np.float64]
Values = Mapping[str, FloatArray]
Span = tuple[float, float]

NOTHING = -800.0
"""The logarithm used for 0: its exponential is exactly 0, and it is finite."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A quantity of a run that the law reads."""

    name: str
    meaning: str
    lower: float = 0.0
    upper: float = math.inf
    closed: bool = False
    """The lower limit itself is allowed (a dense model has a table of 0 parameters)."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter, with its bounds and the values that starts are made from, as people write it."""

    name: str
    meaning: str
    lower: float
    upper: float
    log: bool = False
    grid: tuple[float, ...] = ()
    """Values to start from. Empty: found by linear least squares (then it must be in the law's `linear`)."""
    relative_to: str | None = None
    """A column: then `grid` is the share of the way from its least to its greatest value, in logarithms."""
    power: float = 1.0
    """The parameter is measured in the column's unit to this power (with `relative_to`)."""

    @property
    def symbol(self) -> str:
        """The name by which a form reads what the solver moves."""
        return f"ln {self.name}" if self.log else self.name

    def inner(self, value: float) -> float:
        """The solver's value of what a person wrote."""
        if not self.log:
            return value
        return math.log(value) if value > 0 else NOTHING

    def outer(self, theta: FloatArray) -> FloatArray:
        """What a person writes for the solver's values."""
        return np.exp(theta) if self.log else theta


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A quantity that follows from the parameters, reported with its interval beside them."""

    name: str
    formula: str
    value: Callable[[Values], FloatArray]


class Symbols:
    """Parameters or columns by name; "ln N" is the logarithm of "N", whichever of the two is at hand."""

    def __init__(self, jets: Mapping[str, Jet]) -> None:
        self._jets = dict(jets)

    def __getitem__(self, name: str) -> Jet:
        if name not in self._jets:
            if name.startswith("ln ") and name[3:] in self._jets:
                self._jets[name] = self._jets[name[3:]].log()
            elif f"ln {name}" in self._jets:
                self._jets[name] = self._jets[f"ln {name}"].exp()
            else:
                raise KeyError(f"the law's form names {name!r}, which it does not declare")
        return self._jets[name]


Form = Callable[[Symbols, Symbols], Jet]
Starts = Callable[[Mapping[str, FloatArray], FloatArray], FloatArray]


@dataclass(frozen=True, kw_only=True)
class Law:
    """A form of the loss with its parameters. `form(p, x)` gives ln of the loss, or the value itself, by `gives`."""

    name: str
    formula: str
    source: str
    columns: tuple[Column, ...]
    parameters: tuple[Parameter, ...]
    form: Form
    gives: Literal["log", "value"] = "log"
    linear: tuple[str, ...] = ()
    """Parameters in which the value (or, with `linear_in` "log", its logarithm) is linear, the others given."""
    linear_in: Literal["value", "log"] = "value"
    starts: Starts | None = None
    """Starts of its own, as [S, P] of the solver's values, for a law that is linear in nothing."""
    derived: tuple[Derived, ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)
    """Coefficients of the form that are no parameters of their own, by the parameter whose value they have."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters, in the solver's order."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def lower(self) -> FloatArray:
        """Lower bounds [P] of what the solver moves."""
        return np.array([parameter.inner(parameter.lower) for parameter in self.parameters])

    @property
    def upper(self) -> FloatArray:
        """Upper bounds [P] of what the solver moves."""
        return np.array([parameter.inner(parameter.upper) for parameter in self.parameters])

    def index(self, name: str) -> int:
        """The place of a parameter. Raises FitError for a name that the law does not have."""
        if name in self.tied:
            raise FitError(f"{name} of law {self.name} is tied to {self.tied[name]}; name {self.tied[name]}")
        if name not in self.names:
            raise FitError(f"law {self.name} has no parameter {name!r}; it has {', '.join(self.names)}")
        return self.names.index(name)

    def theta(self, values: Mapping[str, float]) -> FloatArray:
        """The solver's values [P] of parameters as people write them."""
        missing = [name for name in self.names if name not in values]
        if missing:
            raise FitError(f"law {self.name} needs a value for {', '.join(missing)}; given: {', '.join(values)}")
        return np.array([parameter.inner(values[parameter.name]) for parameter in self.parameters])

    def values(self, theta_BP: FloatArray) -> dict[str, FloatArray]:
        """Parameters and derived quantities as people write them, each [B]."""
        found = {parameter.name: parameter.outer(theta_BP[:, index]) for index, parameter in enumerate(self.parameters)}
        found |= {alias: found[target] for alias, target in self.tied.items()}
        with np.errstate(all="ignore"):  # 0 / 0 where both exponents are 0: the quantity is then not a number
            return found | {derived.name: derived.value(found) for derived in self.derived}

    def symbols(self, theta_BP: FloatArray, *, derivatives: bool) -> Symbols:
        """The parameters as a form reads them, with their derivatives or without."""
        jets = {
            parameter.symbol: autodiff.parameter(theta_BP[:, index], index if derivatives else None)
            for index, parameter in enumerate(self.parameters)
        }
        for alias, target in self.tied.items():
            symbol = self.parameters[self.index(target)].symbol
            jets[symbol.removesuffix(target) + alias] = jets[symbol]
        return Symbols(jets)

    def inputs(self, columns: Mapping[str, FloatArray]) -> Symbols:
        """The columns the law reads. Raises FitError where one is missing or has values it cannot take."""
        return Symbols({column.name: autodiff.column(self._checked(column, columns)) for column in self.columns})

    def evaluate(self, theta_BP: FloatArray, inputs: Symbols, *, derivatives: bool) -> Jet:
        """What the form gives, [B, N]."""
        return self.form(self.symbols(theta_BP, derivatives=derivatives), inputs)

    def predict(self, values: Mapping[str, float], columns: Mapping[str, FloatArray]) -> FloatArray:
        """The loss [N] at parameters as people write them."""
        given = self.evaluate(self.theta(values)[None, :], self.inputs(columns), derivatives=False).value
        num = len(next(iter(columns.values())))
        loss: FloatArray = np.broadcast_to(np.exp(given) if self.gives == "log" else given, (1, num))[0]
        return loss

    def _checked(self, column: Column, columns: Mapping[str, FloatArray]) -> FloatArray:
        if column.name not in columns:
            raise FitError(
                f"law {self.name} ({self.formula}) reads column {column.name} ({column.meaning}), which is not given;"
                f" given: {', '.join(columns) or 'none'}"
            )
        values = np.asarray(columns[column.name], dtype=np.float64)
        low = values >= column.lower if column.closed else values > column.lower
        bad = np.flatnonzero(~(np.isfinite(values) & low & (values < column.upper)))
        if len(bad):
            shown = ", ".join(f"{values[row]:.6g} (point {row})" for row in bad[:3])
            limit = "at least" if column.closed else "above"
            below = f" and below {column.upper:g}" if math.isfinite(column.upper) else ""
            raise FitError(
                f"column {column.name} ({column.meaning}) must be finite, {limit} {column.lower:g}{below};"
                f" {len(bad)} of {formatting.counted(len(values), 'point')}"
                f" {formatting.verb(len(bad), 'is', 'are')} not: {shown}. Drop them by a stated rule, or mend the table"
            )
        return values
