"""What makes a best split doubtful, as data: a narrow window, edge minima, an asymmetric surface, a long extrapolation.

Decides the limits, none of which is a law of nature: a column that spans less than a factor of ten, a split beyond ten
times the greatest FLOPs at hand, exponents whose 95 % intervals do not overlap (approach 2's intercept is then biased),
approaches whose splits differ by more than a factor of two.
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
    """Everything that a reader of these splits has to know."""
    law = () if found.law is None else found.law.warnings
    return (*law, *_windows(columns), *_edges(found), *_asymmetry(found), *_far(found), *_apart(found))


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
            text=f"at {formatting.power(one.flops)} FLOPs {one.reason}: that budget is in no frontier",
        )
        for one in found.isoflop.minima
        if one.reason
    ]


def _asymmetry(found: Approaches) -> list[FitWarning]:
    if found.law is None or found.isoflop is None:
        return []
    alpha, beta = (found.law.coefficient(name).ci95 for name in ("alpha", "beta"))
    if alpha[0] <= beta[1] and beta[0] <= alpha[1]:
        return []
    text = (
        f"alpha [{alpha[0]:.3g}, {alpha[1]:.3g}] and beta [{beta[0]:.3g}, {beta[1]:.3g}] differ: the surface is not"
        " symmetric about its optimum, and approach 2 is biased in its intercept (its exponents are not)"
    )
    return [FitWarning(code="asymmetric_surface", text=text)]


def _far(found: Approaches) -> list[FitWarning]:
    far = max((one.extrapolation for one in found.splits), default=0.0)
    if far <= MOST_AHEAD * (1 + 1e-9):
        return []
    return [
        FitWarning(
            code="extrapolation", text=f"the farthest split is at {far:.3g} times the greatest FLOPs that were run"
        )
    ]


def _apart(found: Approaches) -> list[FitWarning]:
    """Of the splits at the greatest FLOPs asked for."""
    at = max(found.flops, default=0.0)
    best = {one.approach: one.params.at(at) for one in found.frontiers}
    if found.splits:
        best["3 (law)"] = max(found.splits, key=lambda one: one.flops).params
    if len(best) < 2 or max(best.values()) < MOST_APART * min(best.values()):
        return []
    shown = ", ".join(f"{name}: {formatting.count(value)}" for name, value in best.items())
    return [
        FitWarning(
            code="approaches_differ", text=f"the best N at {formatting.power(at)} FLOPs differs by approach ({shown})"
        )
    ]
