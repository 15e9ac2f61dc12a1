"""Which parameters a table does not determine, whatever its noise.

Three causes: no more runs (or groups of runs) than free parameters, so that nothing is left to measure noise from; two
columns that move together (D = 20 N), so that their effects cannot be separated; and a combination of parameters that
changes no prediction. Intervals of such parameters are infinite, and the summary marks them "not identified".

Shapes: N runs, P parameters.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from analysis.solver.model import Model
from analysis.solver.newton import Problem

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

COLLINEAR = 0.999
"""Correlation of two columns' logarithms above which their effects cannot be separated."""
SINGULAR = 1e-11
"""The least eigenvalue of the scaled Fisher matrix, below which some combination of parameters is free."""


def collinear_columns(columns: Mapping[str, FloatArray], used_N: BoolArray) -> list[tuple[str, str, float]]:
    """Pairs of columns whose logarithms are correlated by more than `COLLINEAR`, with the correlation."""
    logs = {
        name: np.log(values[used_N])
        for name, values in columns.items()
        if (values[used_N] > 0).all() and len(np.unique(values[used_N])) > 1
    }
    names = list(logs)
    found = []
    for at, left in enumerate(names):
        for right in names[at + 1 :]:
            correlation = float(np.corrcoef(logs[left], logs[right])[0, 1])
            if abs(correlation) > COLLINEAR:
                found.append((left, right, correlation))
    return found


def undetermined(
    problem: Problem,
    columns: Mapping[str, FloatArray],
    theta_P: FloatArray,
    free_P: BoolArray,
    at_bound: frozenset[str],
    degrees: int,
) -> frozenset[str]:
    """The parameters that the table does not determine; `degrees` are runs (or groups) less free parameters."""
    names = problem.model.law.names
    if degrees < 1:
        return frozenset(name for name, free in zip(names, free_P, strict=True) if free)
    used_N = problem.weights[0] > 0
    found = set(singular(problem, theta_P, free_P, at_bound))
    for left, right, _ in collinear_columns(columns, used_N):
        moved = [_moved_by(problem.model, columns, theta_P, name) & free_P for name in (left, right)]
        if moved[0].any() and moved[1].any():
            found |= {name for name, moves in zip(names, moved[0] | moved[1], strict=True) if moves}
    return frozenset(found)


def _moved_by(model: Model, columns: Mapping[str, FloatArray], theta_P: FloatArray, name: str) -> BoolArray:
    """Whether each parameter's effect on the loss changes with a column, the others as they are; [P]."""
    law = model.law
    plain = Model(law, columns, log=False)
    if name not in {column.name for column in law.columns}:
        return np.zeros(len(law.names), dtype=bool)
    other = Model(law, {**columns, name: columns[name] * 1.01}, log=False)
    here_NP = plain.at(theta_P[None, :]).gradients()[0]
    there_NP = other.at(theta_P[None, :]).gradients()[0]
    moved: BoolArray = (np.abs(there_NP - here_NP) > 1e-9 * np.abs(here_NP)).any(axis=0)
    return moved


def singular(problem: Problem, theta_P: FloatArray, free_P: BoolArray, at_bound: frozenset[str]) -> frozenset[str]:
    """Parameters that take part in a combination that changes no prediction."""
    names = problem.model.law.names
    kept = [at for at, name in enumerate(names) if name not in at_bound and free_P[at]]
    if not kept:
        return frozenset()
    gradient_NP = problem.model.at(theta_P[None, :]).gradients()[0][:, kept]
    gradient_NP = gradient_NP * np.sqrt(problem.weights[0])[:, None]
    size_P = np.sqrt((gradient_NP**2).sum(axis=0))
    if not (size_P > 0).all():
        return frozenset(names[kept[at]] for at in np.flatnonzero(~(size_P > 0)))
    scaled = gradient_NP / size_P
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    null = vectors[:, values < SINGULAR]
    return frozenset(names[kept[at]] for at in np.flatnonzero((np.abs(null) > 1e-2).any(axis=1)))
