"""Which runs are held out of a fit and predicted: the largest in one quantity, or settings inside the range in turn.

Shapes: N runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

NUM_FOLDS = 10


@dataclass(frozen=True, kw_only=True)
class Split:
    """Runs that one fit is not given."""

    kind: str
    """What is asked of the law: 'larger tables', 'largest base', 'left-out settings'. Splits of a kind are pooled."""
    label: str
    limit: float
    """The largest value that is fitted; not a number where the runs lie inside the range."""
    rows: npt.NDArray[np.intp]


def largest(values_N: FloatArray, candidate_N: BoolArray, kind: str, *, most: int) -> tuple[Split, ...]:
    """At up to `most` limits, from the highest down: the candidates above it are held out.

    At least two values of the candidates are always fitted. Runs that are no candidates (dense models, which anchor
    the law without a table) stay in the fit.
    """
    levels = np.unique(np.round(np.log(values_N[candidate_N]), 6))
    found = []
    for below in range(len(levels) - 2, max(len(levels) - 2 - most, 0), -1):
        rows = np.flatnonzero(candidate_N & (np.log(np.where(candidate_N, values_N, 1.0)) > levels[below] + 1e-4))
        limit = float(np.exp(levels[below]))
        label = f"fitted up to {limit:.4g}, predicted up to {float(np.exp(levels[-1])):.4g}"
        found.append(Split(kind=kind, label=label, limit=limit, rows=rows))
    return tuple(found)


def folds(setting_N: npt.NDArray[np.integer], kind: str, *, num: int = NUM_FOLDS) -> tuple[Split, ...]:
    """Every setting is held out once, with all of its replicates; settings are dealt to the folds in turn."""
    which_N = np.unique(setting_N, return_inverse=True)[1].reshape(-1)
    num = min(num, int(which_N.max(initial=-1)) + 1)
    if num < 2:
        return ()
    return tuple(
        Split(
            kind=kind, label=f"fold {fold + 1} of {num}", limit=float("nan"), rows=np.flatnonzero(which_N % num == fold)
        )
        for fold in range(num)
    )
