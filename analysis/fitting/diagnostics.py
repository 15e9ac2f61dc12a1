"""What a table must have before it is fitted, and what a reader must know afterwards.

Refuses: columns of other lengths, values that are not numbers, weights below zero, losses that are all equal or that
have no logarithm, a column with one value only, fewer points than parameters. Warns of what makes an answer weak
without making it wrong; each warning has a code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis import formatting
from analysis.errors import FitError
from analysis.inference.identification import collinear_columns
from analysis.inference.profile import UnidentifiedSides
from analysis.inference.result import Fit, FitWarning, Starts
from analysis.laws.law import Law
from analysis.solver.newton import Problem
from analysis.solver.objective import Objective

FloatArray = npt.NDArray[np.float64]

FEW_STARTS = 0.25
"""Share of the starts at the best optimum below which there may be a better one."""


@dataclass(frozen=True, kw_only=True)
class FitInputs:
    """What is fitted, as checked numbers, with what the table alone calls for a warning of."""

    columns: dict[str, FloatArray]
    loss: FloatArray
    weights: FloatArray
    warnings: tuple[FitWarning, ...]


def points(
    law: Law,
    columns: Mapping[str, npt.ArrayLike],
    loss: npt.ArrayLike,
    weights: npt.ArrayLike | None,
    objective: Objective,
    fixed: Mapping[str, float],
) -> FitInputs:
    """The columns the law reads, as numbers, checked."""
    loss_N = _numbers("loss", loss)
    read = {}
    for column in law.columns:
        if column.name in columns:
            read[column.name] = _numbers(column.name, columns[column.name])
            if len(read[column.name]) != len(loss_N):
                raise FitError(f"column {column.name} has {len(read[column.name])} values, the losses {len(loss_N)}")
    _check_losses(loss_N, objective)
    law.inputs(read)
    weights_N = np.ones_like(loss_N) if weights is None else _numbers("weights", weights)
    if weights_N.shape != loss_N.shape or not np.isfinite(weights_N).all() or (weights_N < 0).any():
        raise FitError(f"weights must be {len(loss_N)} finite numbers, none below zero, as many as there are losses")
    return FitInputs(columns=read, loss=loss_N, weights=weights_N, warnings=_check_design(law, read, weights_N, fixed))


def inverse_variances(
    loss: npt.ArrayLike, stderr: npt.ArrayLike, weights: npt.ArrayLike | None, objective: Objective
) -> FloatArray:
    """Weights of mean 1 from the standard errors of the losses, of ln of them where the objective takes logarithms."""
    if weights is not None:
        raise FitError("both weights and standard errors are given; give one of them")
    loss_N, stderr_N = _numbers("loss", loss), _numbers("stderr", stderr)
    if stderr_N.shape != loss_N.shape or not (np.isfinite(stderr_N) & (stderr_N > 0)).all():
        raise FitError(f"stderr must be {len(loss_N)} finite numbers above zero, one for each loss")
    _check_losses(loss_N, objective)
    relative_N = stderr_N / loss_N if objective.log else stderr_N
    precision_N: FloatArray = relative_N**-2.0
    mean = float(precision_N.mean())
    return np.asarray(precision_N / mean, dtype=np.float64)


def _numbers(name: str, given: npt.ArrayLike) -> FloatArray:
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FitError(f"column {name} must hold numbers: {error}") from None
    if values.ndim != 1:
        raise FitError(f"column {name} must be a list of numbers; given an array of shape {values.shape}")
    return values


def _check_losses(loss_N: FloatArray, objective: Objective) -> None:
    if len(loss_N) == 0:
        raise FitError("there are no points to fit: every row was dropped, or the table is empty")
    bad = np.flatnonzero(~np.isfinite(loss_N) | ((loss_N <= 0) & objective.log))
    if len(bad):
        shown = ", ".join(f"{loss_N[row]:.6g} (point {row})" for row in bad[:3])
        above = " and above 0, since the objective takes its logarithm" if objective.log else ""
        raise FitError(
            f"the loss must be finite{above}; {len(bad)} of"
            f" {formatting.counted(len(loss_N), 'point')} {formatting.verb(len(bad), 'is', 'are')} not: {shown}."
            " Drop failed and"
            " diverged runs by a stated rule"
        )
    if len(loss_N) > 1 and float(np.ptp(loss_N)) <= 1e-12 * float(np.abs(loss_N).max()):
        raise FitError(
            f"all {len(loss_N)} losses are {loss_N[0]:.6g}: there is nothing to fit. Is it the right column?"
        )


def _check_design(
    law: Law, read: Mapping[str, FloatArray], weights_N: FloatArray, fixed: Mapping[str, float]
) -> tuple[FitWarning, ...]:
    used_N = weights_N > 0
    num, needed = int(used_N.sum()), len(law.parameters) - sum(law.index(name) >= 0 for name in fixed)
    if num < needed:
        raise FitError(
            f"law {law.name} ({law.formula}) has {formatting.counted(needed, 'free parameter')}, and"
            f" the table {formatting.counted(num, 'point')}: give at least"
            f" {needed + 1}, a law with fewer parameters, or fix some"
        )
    warnings = []
    if num <= needed + 1:
        warnings.append(
            FitWarning(
                code="few_points",
                text=(
                    f"{formatting.counted(num, 'point')} for"
                    f" {formatting.counted(needed, 'parameter')}: hardly anything is left to measure the noise from"
                ),
            )
        )
    for name, values in read.items():
        if len(np.unique(values[used_N])) < 2:
            text = f"column {name} is {values[used_N][0]:.6g} in all {num} points: law {law.name} cannot tell its part"
            if not fixed:
                raise FitError(f"{text} from the rest. Take a law without {name}, add runs, or fix its parameters")
            warnings.append(FitWarning(code="constant_column", text=text + " except through what is fixed"))
    return (*warnings, *_collinear(read, used_N))


def _collinear(read: Mapping[str, FloatArray], used_N: npt.NDArray[np.bool_]) -> list[FitWarning]:
    return [
        FitWarning(
            code="collinear",
            text=f"ln {left} and ln {right} are collinear (correlation {correlation:.5f}): their effects cannot be told"
            " apart; vary one at a given other",
        )
        for left, right, correlation in collinear_columns(read, used_N)
    ]


def warnings(
    problem: Problem,
    converged: bool,
    starts: Starts,
    open_: UnidentifiedSides,
    at_bound: frozenset[str],
    undetermined: frozenset[str],
) -> list[FitWarning]:
    """What the fit itself showed."""
    found = []
    if not converged:
        found.append(FitWarning(code="not_converged", text="the solver stopped before the optimum was reached"))
    if starts.share_at_best < FEW_STARTS:
        reached = round(starts.share_at_best * starts.num)
        text = (
            f"only {reached} of {starts.num} starts {formatting.verb(reached, 'reaches', 'reach')}"
            " the best optimum: another may be better still"
        )
        found.append(FitWarning(code="few_starts_at_best", text=text))
    if problem.objective.kind == "asymmetric":
        text = (
            f"a prediction above the data weighs {problem.objective.over:g} times one below: not a symmetric estimate"
        )
        found.append(FitWarning(code="asymmetric_objective", text=text))
    for name in sorted(at_bound):
        found.append(FitWarning(code="at_bound", text=f"{name} lies at a bound: the data do not determine it"))
    for name, sides in open_.sides.items():
        if name not in at_bound:
            ends = " and ".join(side for side, is_open in zip(("lower", "upper"), sides, strict=True) if is_open)
            text = f"{name} is not identified: its {ends} bound fits the data as well, within the 95 % limit"
            found.append(FitWarning(code="unidentified", text=text))
    if undetermined:
        names = ", ".join(name for name in problem.model.law.names if name in undetermined)
        text = f"{names}: not identified by this table, so no interval is given; their separate values mean nothing"
        found.append(FitWarning(code="not_identified", text=text))
    return found


def warnings_of_replicates(fit: Fit) -> list[FitWarning]:
    """What the bootstrap showed."""
    if fit.replicates is None:
        return []
    found = []
    if fit.replicates.share_converged < 0.99:
        text = f"{100 * (1 - fit.replicates.share_converged):.3g} % of the refits stopped before their optimum"
        found.append(FitWarning(code="refits_not_converged", text=text))
    model = fit.problem.model
    free_P = np.array([name not in fit.fixed for name in fit.law.names])
    near = 1e-6 * np.subtract(model.upper, model.lower, out=np.zeros_like(model.upper), where=free_P)
    at_BP = (fit.replicates.theta <= model.lower + near) | (fit.replicates.theta >= model.upper - near)
    for name, share in zip(fit.law.names, at_BP.mean(axis=0), strict=True):
        if share > 0.025 and name not in fit.at_bound and name not in fit.fixed:
            text = f"{name} lies at a bound in {100 * share:.3g} % of the refits: its interval is open on that side"
            found.append(FitWarning(code="bootstrap_at_bound", text=text))
    return found
