"""Approach 3 (Hoffmann et al. 2022): the N and D at which a fitted law's loss is least, for given FLOPs C = 6 N D.

Chinchilla's law has it in closed form: N* = G (C/6)^a, D* = (C/6)^b / G, G = (alpha A / (beta B))^(1/(alpha + beta)),
a = beta/(alpha + beta) (their equation 4). For any other law of N and D it is searched in ln N. Bands are those of the
bootstrap, each of whose laws is solved on its own.
Refuses a law that does not read both N and D, that has no minimum inside the range searched, or whose loss does not
fall with N or D, as where the losses of a table rise with the size.

Shapes: B replicates, K budgets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.inference.result import Fit
from analysis.interval import ConfidenceInterval

FloatArray = npt.NDArray[np.float64]

FLOPS_PER_PARAM_TOKEN = 6.0
"""Kaplan et al. 2020: forward and backward."""
_GRID = 2001
_AT_ONCE = 500
"""Replicates whose losses over the grid are held at once."""
_FARTHEST = 1e4
"""The best N is looked for up to so many times outside the sizes at hand."""
_LEAST_FALL = 1e-4
"""Of ln of the loss from the smallest to the largest N (or D) of the runs: less is below the noise of any training."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The compute-optimal allocation of one number of FLOPs, with its 95 % intervals where the fit has draws."""

    flops: float
    params: float
    tokens: float
    params_ci95: ConfidenceInterval | None
    tokens_ci95: ConfidenceInterval | None
    extrapolation: float
    """FLOPs over the greatest at hand; above 1 the split is extrapolated."""


def allocates(fit: Fit) -> bool:
    """Whether the law reads N and D and nothing else."""
    return {column.name for column in fit.law.columns} == {"N", "D"}


def compute_optimal_allocation(fit: Fit, flops: Sequence[float]) -> tuple[Allocation, ...]:
    """The compute-optimal allocation of each number of FLOPs. Raises FitError."""
    if not allocates(fit):
        read = ", ".join(column.name for column in fit.law.columns)
        raise FitError(f"law {fit.law.name} reads {read}: a split of compute needs a law of N and D alone")
    bad = [one for one in flops if not (math.isfinite(one) and one > 0)]
    if bad:
        raise FitError(f"FLOPs must be finite and above 0; given {bad[0]:g}")
    flops_K = np.asarray(flops, dtype=np.float64)
    _check_falls(fit)
    best_K = best_params(fit, fit.theta[None, :], flops_K)[0]
    _check_possible(best_K, flops_K)
    refits = fit.interval_replicates
    bands = None if refits is None else best_params(fit, refits.theta, flops_K)
    at_hand = FLOPS_PER_PARAM_TOKEN * float((fit.columns["N"] * fit.columns["D"]).max())
    found = []
    for k, one in enumerate(flops):
        budget = one / FLOPS_PER_PARAM_TOKEN
        with np.errstate(divide="ignore"):
            ends = None if bands is None else (_interval(bands[:, k]), _interval(budget / bands[:, k]))
        found.append(
            Allocation(
                flops=one,
                params=float(best_K[k]),
                tokens=budget / float(best_K[k]),
                params_ci95=None if ends is None else ends[0],
                tokens_ci95=None if ends is None else ends[1],
                extrapolation=one / at_hand,
            )
        )
    return tuple(found)


def best_params(fit: Fit, theta_BP: FloatArray, flops_K: FloatArray) -> FloatArray:
    """N* [B, K] under each of B parameter sets."""
    if fit.law.name == "chinchilla":
        values = fit.law.values(theta_BP)
        alpha_B, beta_B = values["alpha"], values["beta"]
        with np.errstate(all="ignore"):
            log_G = (np.log(alpha_B * values["A"]) - np.log(beta_B * values["B"])) / (alpha_B + beta_B)
            log_N = log_G[:, None] + values["a"][:, None] * np.log(flops_K / FLOPS_PER_PARAM_TOKEN)
            closed: FloatArray = np.exp(log_N)
        return closed
    return _searched(fit, theta_BP, flops_K)


def _searched(fit: Fit, theta_BP: FloatArray, flops_K: FloatArray) -> FloatArray:
    """The least loss on a grid of sizes that all replicates share, and the vertex of the parabola around it."""
    low, high = float(fit.columns["N"].min()) / _FARTHEST, float(fit.columns["N"].max()) * _FARTHEST
    log_N_G = np.linspace(math.log(low), math.log(high), _GRID)
    step, rows = log_N_G[1] - log_N_G[0], np.arange(len(theta_BP))
    best_BK = np.empty((len(theta_BP), len(flops_K)))
    for k, flops in enumerate(flops_K):
        params_G = np.exp(log_N_G)
        columns = {"N": params_G, "D": flops / FLOPS_PER_PARAM_TOKEN / params_G}
        loss_BG = np.concatenate(
            [fit.predict_all(theta_BP[at : at + _AT_ONCE], columns) for at in range(0, len(theta_BP), _AT_ONCE)]
        )
        least_B = loss_BG.argmin(axis=1)
        if k == 0 or len(theta_BP) == 1:
            _check_inside(fit, int(least_B[0]), flops)
        middle_B = np.clip(least_B, 1, _GRID - 2)
        before, at, after = (loss_BG[rows, middle_B + side] for side in (-1, 0, 1))
        bend = before - 2.0 * at + after
        vertex_B = np.where(bend > 0, 0.5 * (before - after) / np.where(bend > 0, bend, 1.0), 0.0)
        best_BK[:, k] = np.exp(log_N_G[middle_B] + step * np.clip(vertex_B, -1.0, 1.0))
    return best_BK


def _check_falls(fit: Fit) -> None:
    """Raises FitError where the fitted loss does not fall with the parameters or with the tokens of the runs."""
    for letter, values_N in fit.columns.items():
        ends = np.array([values_N.min(), values_N.max()])
        at = {name: ends if name == letter else np.full(2, np.median(one)) for name, one in fit.columns.items()}
        smallest, largest = np.log(fit.predict(at))
        if ends[0] < ends[1] and smallest - largest < _LEAST_FALL:
            values = ", ".join(f"{name} = {value:.3g}" for name, value in fit.values.items())
            raise FitError(
                f"no compute-optimal allocation: the fitted loss does not fall as {letter} grows from {ends[0]:.3g} to"
                f" {ends[1]:.3g} ({values}). Check the column of {letter} and which rows are left out, or add runs over"
                f" a wider range of {letter}"
            )


def _check_possible(params_K: FloatArray, flops_K: FloatArray) -> None:
    """Raises FitError where the best model would have less than one parameter, or be trained on less than one token."""
    tokens_K = flops_K / FLOPS_PER_PARAM_TOKEN / np.maximum(params_K, 1e-30)
    bad = np.flatnonzero(~((params_K >= 1.0) & (tokens_K >= 1.0)))
    if len(bad):
        least = "token" if params_K[bad[0]] >= 1.0 else "parameter"
        raise FitError(
            f"no compute-optimal allocation: at {flops_K[bad[0]]:.3g} FLOPs the fitted loss is lowest with less than"
            f" one {least}"
        )


def _check_inside(fit: Fit, least: int, flops: float) -> None:
    if least in (0, _GRID - 1):
        raise FitError(
            f"law {fit.law.name} has no compute-optimal allocation of {flops:.3g} FLOPs within {_FARTHEST:g} times the"
            " sizes at hand"
        )


def _interval(drawn_B: FloatArray) -> ConfidenceInterval:
    lower, upper = np.quantile(drawn_B, [0.025, 0.975])
    return ConfidenceInterval(float(lower), float(upper))
