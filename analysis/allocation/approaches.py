"""The three approaches side by side on one table, and what each predicts at given FLOPs.

An approach that the table does not carry is left out with its reason, so that the others still answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.allocation import parametric
from analysis.allocation.envelope import envelope
from analysis.allocation.isoflop import Frontier, Method, isoflop
from analysis.errors import FitError
from analysis.fitting.fit_law import fit_law
from analysis.inference.result import Fit

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Approaches:
    """What each approach found; None with its reason in `missing`."""

    envelope: Frontier | None
    isoflop: Frontier | None
    law: Fit | None
    missing: dict[str, str]
    flops: tuple[float, ...]
    """At which the splits are given."""
    splits: tuple[parametric.Split, ...]
    """Of the law, one for each of `flops`."""

    @property
    def frontiers(self) -> tuple[Frontier, ...]:
        return tuple(one for one in (self.envelope, self.isoflop) if one is not None)


def approaches(
    params_N: FloatArray,
    tokens_N: FloatArray,
    flops_N: FloatArray,
    loss_N: FloatArray,
    *,
    flops: Sequence[float],
    method: Method = "parabola",
    objective: str = "log_huber",
    delta: float | None = None,
    num_replicates: int = 0,
    seed: int = 0,
) -> Approaches:
    """All three on the same points. Raises FitError where none of them can be had."""
    missing: dict[str, str] = {}

    def tried(name: str, make: Callable[[], Frontier]) -> Frontier | None:
        try:
            return make()
        except FitError as error:
            missing[name] = str(error)
            return None

    columns = (params_N, tokens_N, flops_N, loss_N)
    first = tried("1 (envelope)", lambda: envelope(*columns, num_replicates=num_replicates, seed=seed))
    second = tried(
        f"2 (isoFLOP, {method})", lambda: isoflop(*columns, method=method, num_replicates=num_replicates, seed=seed)
    )
    third: Fit | None = None
    splits: tuple[parametric.Split, ...] = ()
    try:
        third = fit_law(
            "chinchilla",
            {"N": params_N, "D": tokens_N},
            loss_N,
            objective=objective,
            delta=delta,
            bootstrap=num_replicates,
            seed=seed,
        )
        splits = parametric.splits(third, flops)
    except FitError as error:
        missing["3 (law)"] = str(error)
    if first is None and second is None and third is None:
        raise FitError("no approach works on this table: " + "; ".join(f"{k}: {v}" for k, v in missing.items()))
    return Approaches(envelope=first, isoflop=second, law=third, missing=missing, flops=tuple(flops), splits=splits)
