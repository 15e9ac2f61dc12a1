"""Simulated tables for the intervals of `isoflop`: the exponent a, and N* at each budget."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from analysis.allocation.isoflop import isoflop_frontier
from analysis.errors import FitError
from benchmarks.coverage import Case, Held

FloatArray = npt.NDArray[np.float64]

SURFACES = {
    "symmetric": (406.4, 410.7, 0.31, 0.31),
    "chinchilla": (406.4, 410.7, 0.34, 0.28),
    "asymmetric": (12192.0, 61.6, 0.465, 0.155),
}
"""A, B, alpha, beta of L = 1.69 + A/N^alpha + B/D^beta."""
SHAPES = ((3, 5, 2), (4, 5, 1), (3, 5, 3), (5, 5, 5), (5, 7, 1), (5, 15, 1))
"""Budgets, sizes, seeds."""
GRIDS = {"wide": (16.0, 0.7, 0.003), "medium": (4.0, 0.3, 0.003), "narrow": (2.0, 0.2, 0.001)}
"""Sizes reach so many times from the middle; the middle drifts by so many e-folds against the optimum from the first to
the middle budget; standard deviation of a run's log loss."""


def optimum(surface: str, flops: float) -> float:
    """N* of a surface (Hoffmann et al. 2022, equation 4)."""
    A, B, alpha, beta = SURFACES[surface]
    return float((alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta)))


def simulate(
    surface: str, shape: tuple[int, int, int], grid: str, random: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Parameters, tokens, FLOPs and loss of a table."""
    A, B, alpha, beta = SURFACES[surface]
    num_budgets, sizes, seeds = shape
    reach, drift, noise = GRIDS[grid]
    flops = np.repeat(np.geomspace(1e18, 1e21, num_budgets), sizes * seeds)
    middle = np.repeat(np.linspace(-drift, drift, num_budgets), sizes * seeds)
    offsets = np.tile(np.repeat(np.linspace(-np.log(reach), np.log(reach), sizes), seeds), num_budgets)
    best = np.array([optimum(surface, float(one)) for one in flops])
    params = best * np.exp(middle + offsets)
    tokens = flops / 6 / params
    loss = (1.69 + A / params**alpha + B / tokens**beta) * np.exp(noise * random.standard_normal(len(flops)))
    return params, tokens, flops, loss


def _held(surface: str, shape: tuple[int, int, int], grid: str, what: str, random: np.random.Generator) -> Held:
    names = ["a"] if what == "exponent" else [f"N* {at}" for at in range(shape[0])]
    try:
        found = isoflop_frontier(*simulate(surface, shape, grid, random), seed=int(random.integers(1 << 30)))
    except FitError:
        return dict.fromkeys(names)
    if what == "exponent":
        _, _, alpha, beta = SURFACES[surface]
        interval = found.params.exponent_ci95
        return {"a": None if interval is None else interval.holds(beta / (alpha + beta))}
    held: dict[str, bool | None] = {}
    for name, one in zip(names, found.minima, strict=True):
        known = None if one.reason else one.params_ci95
        held[name] = None if known is None else known.holds(optimum(surface, one.flops))
    return held


def cases() -> list[Case]:
    """The exponent on every shape and grid of the Chinchilla surface, and N* on the three surfaces."""
    found = []
    for surface in SURFACES:
        for shape in SHAPES:
            for grid, (reach, _, noise) in GRIDS.items():
                words = f"{shape[0]} budgets x {shape[1]} sizes x {shape[2]} seeds"
                found.append(
                    Case(
                        name=f"isoflop exponent: {surface}, {grid}, {words}",
                        words=f"the {surface} surface, sizes within a factor of {reach:g}, noise {noise:g}",
                        table=partial(_held, surface, shape, grid, "exponent"),
                        target=(0.93, 0.97),
                    )
                )
    for surface in SURFACES:
        found.append(
            Case(
                name=f"isoflop N*: {surface}, medium, 5 budgets x 7 sizes x 1 seeds",
                words=f"the {surface} surface: the interval of every budget's optimal size",
                table=partial(_held, surface, (5, 7, 1), "medium", "minima"),
            )
        )
    return found
