"""Where the solver starts: variable projection over a grid of the parameters that a law is not linear in.

With its exponents given, a law is linear in its amplitudes, and these follow from weighted least squares with
amplitudes at or above zero (Golub and Pereyra 1973). So the grid runs over exponents alone; what scores well there,
no two starts being neighbours on the grid, is handed to the solver. Nothing is random: a grid too large is thinned by
a fixed sequence.

Shapes: G grid points, N runs, K amplitudes, S starts, P parameters.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from analysis.laws.law import Law, Parameter
from analysis.solver.model import Model

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

MAX_GRID = 4096
MAX_GRID_OF_JETS = 1024
"""For a law that is no sum of powers, whose every evaluation costs more."""
_FAINT = 1e-4
"""The share of the loss that an amplitude found to be zero starts from: its logarithm must be finite."""
_SHORTLIST = 512


def starts(
    model: Model,
    columns: Mapping[str, FloatArray],
    loss_N: FloatArray,
    weights_N: FloatArray,
    *,
    num: int,
    fixed: Mapping[str, float],
) -> FloatArray:
    """Up to `num` starting points [S, P], the most promising first."""
    law = model.law
    if law.starts is not None:
        theta_SP = _hold(law, np.clip(law.starts(columns, loss_N), model.lower, model.upper), fixed)
        return theta_SP[np.argsort(_misfit(model, theta_SP, loss_N, weights_N), kind="stable")[:num]]
    grid_GQ, places_GQ, indices = _grid(law, columns, fixed, MAX_GRID if model.design else MAX_GRID_OF_JETS)
    theta_GP = np.zeros((len(grid_GQ), len(law.parameters)))
    theta_GP[:, indices] = grid_GQ
    theta_GP = _project(model, theta_GP, loss_N, weights_N)
    theta_GP = _hold(law, np.clip(theta_GP, model.lower, model.upper), fixed)
    miss_G = _misfit(model, theta_GP, loss_N, weights_N)
    return theta_GP[_apart(miss_G, places_GQ, num)]


def _hold(law: Law, theta_SP: FloatArray, fixed: Mapping[str, float]) -> FloatArray:
    for name, value in fixed.items():
        index = law.index(name)
        theta_SP[:, index] = law.parameters[index].inner(value)
    return theta_SP


def _grid(
    law: Law, columns: Mapping[str, FloatArray], fixed: Mapping[str, float], most: int
) -> tuple[FloatArray, IntArray, list[int]]:
    """The grid as solver's values [G, Q], its places on each axis [G, Q], and which parameters the axes are."""
    indices = [index for index, parameter in enumerate(law.parameters) if parameter.name not in law.linear]
    axes = [
        np.array([law.parameters[index].inner(fixed[law.parameters[index].name])])
        if law.parameters[index].name in fixed
        else _axis(law.parameters[index], columns)
        for index in indices
    ]
    if not axes:
        return np.zeros((1, 0)), np.zeros((1, 0), dtype=np.intp), []
    shape = tuple(len(axis) for axis in axes)
    flat = np.arange(int(np.prod(shape)))
    if len(flat) > most:
        flat = np.sort(np.random.default_rng(0).choice(flat, size=most, replace=False))
    places_GQ = np.stack(np.unravel_index(flat, shape), axis=1)
    grid_GQ = np.stack([axis[places_GQ[:, at]] for at, axis in enumerate(axes)], axis=1)
    return grid_GQ, places_GQ, indices


def _axis(parameter: Parameter, columns: Mapping[str, FloatArray]) -> FloatArray:
    if parameter.relative_to is None:
        return np.array([parameter.inner(value) for value in parameter.grid])
    data = np.asarray(columns[parameter.relative_to], dtype=np.float64)
    if not parameter.log:
        plain: FloatArray = data.min() + np.array(parameter.grid) * (data.max() - data.min())
        return plain
    logs = np.log(data[data > 0]) if np.any(data > 0) else np.zeros(1)
    axis: FloatArray = parameter.power * (logs.min() + np.array(parameter.grid) * (logs.max() - logs.min()))
    return axis


def _project(model: Model, theta_GP: FloatArray, loss_N: FloatArray, weights_N: FloatArray) -> FloatArray:
    """Fill in the amplitudes of every grid point by least squares, on the scale in which the law is linear."""
    law = model.law
    linear = [law.index(name) for name in law.linear]
    if not linear:
        return theta_GP
    in_log = law.linear_in == "log"
    target_N = np.log(loss_N) if in_log else loss_N
    # Residuals of the logarithm are, near the data, those of the loss over the loss.
    weight_N = weights_N / (loss_N * loss_N) if model.log and not in_log else weights_N
    signed = np.array([in_log or not law.parameters[index].log for index in linear])
    gram_GKK, right_GK, sizes_GK = _normal_equations(model, theta_GP, linear, target_N, weight_N)
    amplitude_GK = nonnegative(gram_GKK, right_GK, signed)
    typical = float(np.average(np.abs(target_N)))
    faint_GK = np.where(signed, amplitude_GK, np.maximum(amplitude_GK, _FAINT * typical))
    for k, index in enumerate(linear):
        value_G = faint_GK[:, k] * np.exp(-sizes_GK[:, k])
        logged = law.parameters[index].log and not in_log
        theta_GP[:, index] = np.log(faint_GK[:, k]) - sizes_GK[:, k] if logged else value_G
    return theta_GP


def _normal_equations(
    model: Model, theta_GP: FloatArray, linear: list[int], target_N: FloatArray, weight_N: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gram matrices [G, K, K] and right sides [G, K] of bases scaled to at most 1, and ln of those scales [G, K]."""
    of_terms = _term_of_each(model, linear)
    bases: list[tuple[FloatArray, IntArray]] = []
    sizes_GK = np.zeros((len(theta_GP), len(linear)))
    for k, index in enumerate(linear):
        if of_terms is not None:
            base_UN, row_G = _base_of_term(model, theta_GP, of_terms[k], index)
        else:
            base_UN, row_G = _base_of_form(model, theta_GP, linear, k), np.arange(len(theta_GP))
        if model.law.gives == "log" and model.law.linear_in == "value":
            size_U = base_UN.max(axis=1)
            base_UN = np.exp(base_UN - size_U[:, None])
        else:
            size_U = np.log(np.maximum(np.abs(base_UN).max(axis=1), 1e-300))
            base_UN = base_UN * np.exp(-size_U)[:, None]
        sizes_GK[:, k] = size_U[row_G]
        bases.append((base_UN, row_G))
    num = len(linear)
    gram_GKK = np.empty((len(theta_GP), num, num))
    right_GK = np.empty((len(theta_GP), num))
    for k, (left, left_G) in enumerate(bases):
        weighted = left * weight_N
        right_GK[:, k] = (weighted @ target_N)[left_G]
        for m in range(k, num):
            other, other_G = bases[m]
            if len(left) * len(other) <= 4 * len(theta_GP):
                product_G = (weighted @ other.T)[left_G, other_G]
            else:
                product_G = np.einsum("gn,gn->g", weighted[left_G], other[other_G])
            gram_GKK[:, k, m] = gram_GKK[:, m, k] = product_G
    return gram_GKK, right_GK, sizes_GK


def _term_of_each(model: Model, linear: list[int]) -> list[int] | None:
    """The term of a sum of powers that each amplitude scales, where each scales one whole term of its own."""
    design = model.design
    if design is None or model.law.linear_in == "log":
        return None
    found = []
    for index in linear:
        terms = [k for k, indices in enumerate(design.indices) if index in indices]
        column = design.columns[terms[0]][:, list(design.indices[terms[0]]).index(index)] if terms else None
        if len(terms) != 1 or column is None or not np.all(column == 1.0):
            return None
        found.append(terms[0])
    return found if len(set(found)) == design.num_terms else None


def _base_of_term(model: Model, theta_GP: FloatArray, term: int, index: int) -> tuple[FloatArray, IntArray]:
    """Ln of one term at amplitude 1 for the distinct values of its own exponents [U, N], and each grid point's row."""
    design = model.design
    assert design is not None
    own = [at for at, i in enumerate(design.indices[term]) if i != index]
    values_GQ = theta_GP[:, design.indices[term][own]]
    distinct_UQ, row_G = np.unique(values_GQ, axis=0, return_inverse=True)
    base_UN = distinct_UQ @ design.columns[term][:, own].T + design.constants[term]
    return base_UN, row_G.reshape(-1)


def _base_of_form(model: Model, theta_GP: FloatArray, linear: list[int], k: int) -> FloatArray:
    """What the form gives with amplitude k at 1 and the others at 0, [G, N] (less what it gives with all at 0)."""
    law = model.law
    in_log = law.linear_in == "log"
    alone_GP = theta_GP.copy()
    for index in linear:
        alone_GP[:, index] = -np.inf if law.parameters[index].log and not in_log else 0.0
    shape = (len(theta_GP), model.num_points)
    with np.errstate(all="ignore"):
        nothing: FloatArray | float = 0.0
        if law.gives == "value" or in_log:
            nothing = law.evaluate(alone_GP, model.inputs, derivatives=False).value
        alone_GP[:, linear[k]] = 0.0 if law.parameters[linear[k]].log and not in_log else 1.0
        base = law.evaluate(alone_GP, model.inputs, derivatives=False).value - nothing
    return np.nan_to_num(np.broadcast_to(base, shape), nan=-700.0 if law.gives == "log" else 0.0, posinf=700.0)


def nonnegative(gram_GKK: FloatArray, right_GK: FloatArray, signed_K: npt.NDArray[np.bool_]) -> FloatArray:
    """Least squares of each small system with the unsigned amplitudes at or above zero.

    Every set of them that may be zero is tried; of the feasible solutions the one with the smallest sum of squares is
    the answer.
    """
    num = len(signed_K)
    diagonal_GK = np.einsum("gkk->gk", gram_GKK)
    ridge_GKK = 1e-12 * np.maximum(diagonal_GK, 1e-300)[:, :, None] * np.eye(num)
    gram_GKK = gram_GKK + ridge_GKK
    best_GK = np.asarray(np.linalg.solve(gram_GKK, right_GK[:, :, None])[:, :, 0], dtype=np.float64)
    rows = np.flatnonzero(((best_GK < 0) & ~signed_K).any(axis=1))
    if len(rows) == 0:
        return best_GK
    gram, right = gram_GKK[rows], right_GK[rows]
    best = np.zeros((len(rows), num))
    gain_R = np.full(len(rows), -np.inf)
    unsigned = np.flatnonzero(~signed_K)
    for count in range(1, len(unsigned) + 1):
        for zeros in itertools.combinations(unsigned, count):
            kept = np.array([k for k in range(num) if k not in zeros], dtype=np.intp)
            trial = np.zeros_like(best)
            if len(kept):
                trial[:, kept] = np.linalg.solve(gram[:, kept[:, None], kept], right[:, kept, None])[:, :, 0]
            # The sum of squares falls by right . x.
            fall_R = np.einsum("rk,rk->r", right, trial)
            better_R = ((trial >= 0) | signed_K).all(axis=1) & (fall_R > gain_R)
            best[better_R], gain_R[better_R] = trial[better_R], fall_R[better_R]
    best_GK[rows] = best
    return best_GK


def _misfit(model: Model, theta_GP: FloatArray, loss_N: FloatArray, weights_N: FloatArray) -> FloatArray:
    """Weighted mean absolute residual of each grid point: few far points do not decide where to start."""
    target_N = np.log(loss_N) if model.log else loss_N
    miss_G = np.full(len(theta_GP), np.inf)
    size = max(1, 100_000 // model.num_points)
    with np.errstate(all="ignore"):
        for begin in range(0, len(theta_GP), size):
            chunk = slice(begin, begin + size)
            miss_G[chunk] = np.abs(model.predict(theta_GP[chunk]) - target_N) @ weights_N
    return np.where(np.isfinite(miss_G), miss_G, np.inf)


def _apart(miss_G: FloatArray, places_GQ: IntArray, num: int) -> IntArray:
    """The best grid points of which no two are neighbours (as far as there are `num` of them)."""
    order = np.argsort(miss_G, kind="stable")[:_SHORTLIST]
    order = order[np.isfinite(miss_G[order])]
    chosen: list[int] = []
    for row in order:
        if len(chosen) == num:
            break
        if not chosen or np.abs(places_GQ[chosen] - places_GQ[row]).max(axis=1, initial=0).min() > 1:
            chosen.append(int(row))
    rest = [int(row) for row in order if int(row) not in chosen]
    return np.array((chosen + rest)[:num], dtype=np.intp)
