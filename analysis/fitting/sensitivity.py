"""How one number of a fit moves with the choices that somebody made: objective, exclusions, how parameters are counted.

Every variant changes one thing against the fit at hand and is fitted anew; its interval is that of its own points. A
headline that leaves its interval under a choice nobody can defend on its own is no headline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.fitting.cross_validation import Data, Options
from analysis.interval import ConfidenceInterval
from analysis.laws.law import Law

FloatArray = npt.NDArray[np.float64]

OBJECTIVES = ("log_huber", "log_lsq", "log_lad", "huber", "lsq")
DROPPED = (1, 3, 5, 10)
"""Of the highest losses."""
TRIMMED = 0.1
"""Of the runs at either end of the scale."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The number under one choice."""

    kind: str
    label: str
    value: float
    ci95: ConfidenceInterval
    num_points: int
    reason: str = ""
    """Why it could not be fitted; the value is then not a number."""


def sensitivity(
    law: Law,
    data: Data,
    name: str,
    options: Options,
    *,
    counted: Mapping[str, Mapping[str, FloatArray]] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> tuple[Variant, ...]:
    """The coefficient `name` as fitted, then under each other choice.

    `counted` gives the columns under other conventions (say, embeddings left out of N) by their label; `bootstrap` the
    refits of each variant's interval (0: the default intervals of a fit).
    """
    loss_N, scale_N = data.loss, data.scale

    def one(kind: str, label: str, kept: npt.NDArray[np.bool_], objective: str, delta: float | None,
            table: Mapping[str, FloatArray]) -> Variant:  # fmt: skip
        try:
            found = replace(data, columns=table).fit(law, kept, objective, delta, bootstrap=bootstrap, seed=seed)
            coefficient = found.coefficient(name)
        except FitError as error:
            nothing = ConfidenceInterval(np.nan, np.nan)
            return Variant(kind=kind, label=label, value=np.nan, ci95=nothing, num_points=int(kept.sum()),
                           reason=str(error))  # fmt: skip
        return Variant(
            kind=kind, label=label, value=coefficient.value, ci95=coefficient.ci95, num_points=found.num_points
        )

    every = np.ones(len(loss_N), dtype=bool)
    own = (options.objective, options.delta)
    columns = data.columns
    variants = [one("as fitted", options.objective, every, *own, columns)]
    variants += [
        one("objective", objective, every, objective, None, columns)
        for objective in OBJECTIVES
        if objective != options.objective
    ]
    order = np.argsort(-loss_N, kind="stable")
    for number in DROPPED:
        if number < len(loss_N) / 2:
            kept = every.copy()
            kept[order[:number]] = False
            label = f"{number} highest loss{'es' if number > 1 else ''} left out"
            variants.append(one("exclusion", label, kept, *own, columns))
    low, high = np.quantile(scale_N, [TRIMMED, 1.0 - TRIMMED])
    for label, kept in (("smallest tenth left out", scale_N > low), ("largest tenth left out", scale_N < high)):
        variants.append(one("exclusion", label, kept, *own, columns))
    for label, table in (counted or {}).items():
        variants.append(one("convention", label, every, *own, table))
    return tuple(variants)
