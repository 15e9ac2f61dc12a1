"""Warnings about a compute-optimal allocation: narrow ranges, edge minima, asymmetry, extrapolation, disagreement.

The limits are conventions: a column that spans less than a factor of ten, an optimum beyond ten times the greatest
FLOPs at hand, exponents alpha and beta whose 95 % intervals do not overlap (the intercept of parabolas through all runs
is then biased), isoFLOP methods whose exponents lie outside each other's interval, approaches whose optima differ by
more than a factor of two.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from analysis import formatting
from analysis.allocation.approaches import Approaches
from analysis.inference.result import FitWarning

FloatArray = npt.NDArray[np.float64]

LEAST_SPAN = 10.0
MOST_AHEAD = 10.0
MOST_APART = 2.0
_WORDS = {"N": "parameters", "D": "tokens", "C": "FLOPs"}


def warnings_of(found: Approaches, columns: Mapping[str, FloatArray]) -> tuple[FitWarning, ...]:
    """Everything that a reader of these allocations has to know."""
    law = () if found.law is None else found.law.warnings
    return (
        *law,
        *_windows(columns),
        *_edges(found),
        *_asymmetry(found),
        *_far(found),
        *_methods(found),
        *_apart(found),
    )


def _windows(columns: Mapping[str, FloatArray]) -> list[FitWarning]:
    said = []
    for letter, words in _WORDS.items():
        if letter in columns:
            span = float(columns[letter].max() / columns[letter].min())
            if span < LEAST_SPAN:
                text = (
                    f"{words} ({letter}) span a factor of {span:.3g} only: exponents from so narrow a window are weak"
                )
                said.append(FitWarning(code="narrow_window", text=text))
    return said


def _edges(found: Approaches) -> list[FitWarning]:
    if found.isoflop is None:
        return []
    return [
        FitWarning(
            code="edge_minimum",
            text=f"at {formatting.power(one.flops)} FLOPs {one.reason}: that budget is not part of the frontier",
        )
        for one in found.isoflop.minima
        if one.reason
    ]


def _asymmetry(found: Approaches) -> list[FitWarning]:
    if found.law is None or found.isoflop is None or found.isoflop.method != "parabola":
        return []
    alpha, beta = (found.law.coefficient(name).ci95 for name in ("alpha", "beta"))
    if alpha[0] <= beta[1] and beta[0] <= alpha[1]:
        return []
    text = (
        f"alpha [{alpha[0]:.3g}, {alpha[1]:.3g}] and beta [{beta[0]:.3g}, {beta[1]:.3g}] differ: the surface is not"
        " symmetric about its optimum, and parabolas through all runs are biased in their intercept (not in their"
        " exponents): see the method window"
    )
    return [FitWarning(code="asymmetric_surface", text=text)]


def _far(found: Approaches) -> list[FitWarning]:
    far = max((one.extrapolation for one in found.allocations), default=0.0)
    if far <= MOST_AHEAD * (1 + 1e-9):
        return []
    return [
        FitWarning(
            code="extrapolation", text=f"the farthest optimum is at {far:.3g} times the greatest FLOPs that were run"
        )
    ]


def _methods(found: Approaches) -> list[FitWarning]:
    """Of approach 2's methods: exponents that lie outside each other's 95 % interval."""
    mine = None if found.isoflop is None else found.isoflop.params
    if found.isoflop is None or mine is None or mine.exponent_ci95 is None:
        return []
    apart = [
        one
        for one in found.other_methods
        if not mine.exponent_ci95.holds(one.params.exponent)
        and (one.params.exponent_ci95 is None or not one.params.exponent_ci95.holds(mine.exponent))
    ]
    if not apart:
        return []
    shown = ", ".join(f"{one.method} {one.params.exponent:.4f}" for one in apart)
    text = (
        f"the exponent a is {mine.exponent:.4f} by the method {found.isoflop.method} but {shown}: they differ by more"
        " than their intervals, so the curves are not parabolas over the sizes tried, or follow single runs"
    )
    return [FitWarning(code="methods_differ", text=text)]


def _apart(found: Approaches) -> list[FitWarning]:
    """Of the allocations at the largest requested FLOPs."""
    at = max(found.flops, default=0.0)
    best = {one.approach: one.params.at(at) for one in found.frontiers}
    if found.allocations:
        best["3 (law)"] = max(found.allocations, key=lambda one: one.flops).params
    if len(best) < 2 or max(best.values()) < MOST_APART * min(best.values()):
        return []
    shown = ", ".join(f"{name}: {formatting.count(value)}" for name, value in best.items())
    return [
        FitWarning(
            code="approaches_differ", text=f"the best N at {formatting.power(at)} FLOPs differs by approach ({shown})"
        )
    ]
