"""The three approaches of Hoffmann et al. 2022 side by side on one table, and the optimum of each at given FLOPs.

An approach that the table does not carry is left out with its reason, so that the others still answer. Of approach 2
one method gives the answer and the others are listed with it: if they disagree by more than their intervals, there is a
warning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import formatting
from analysis.allocation.curve import LEAST_SIZES, Method
from analysis.allocation.envelope import envelope
from analysis.allocation.frontier import ComputeOptimalFrontier, PowerFit
from analysis.allocation.isoflop import IsoFlopFrontier, isoflop_frontier
from analysis.allocation.minima import DEFAULT_METHOD, NUM_DRAWS
from analysis.allocation.parametric import Allocation, compute_optimal_allocation
from analysis.errors import FitError
from analysis.fitting.fit_law import fit_law
from analysis.inference.result import Fit, FitWarning
from analysis.result import Result

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class LawOptions:
    """How approach 3's law is fitted."""

    objective: str = "log_huber"
    delta: float | None = None
    fixed: Mapping[str, float] | None = None
    tied: Mapping[str, str] | None = None
    bounds: Mapping[str, tuple[float, float]] | None = None
    bootstrap: int = 0
    """Refits to resampled runs; 0 for the default intervals of a fit."""


@dataclass(frozen=True, kw_only=True)
class IsoFlopRuns:
    """The arrays that all approaches read, one entry a run [N]."""

    params: FloatArray
    tokens: FloatArray
    flops: FloatArray
    loss: FloatArray
    weight: FloatArray | None = None
    cluster: IntArray | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Approaches(Result):
    """N*(C) and D*(C) by each approach; None with its reason in `missing`."""

    envelope: ComputeOptimalFrontier | None
    isoflop: IsoFlopFrontier | None
    other_methods: tuple[IsoFlopFrontier, ...]
    """Approach 2 by the other methods that the table carries."""
    law: Fit | None
    missing: dict[str, str]
    flops: tuple[float, ...]
    """At which the allocations are given."""
    allocations: tuple[Allocation, ...]
    """Of the law, one for each of `flops`."""
    runs: IsoFlopRuns
    warnings: tuple[FitWarning, ...] = ()

    @property
    def frontiers(self) -> tuple[ComputeOptimalFrontier, ...]:
        """The envelope and the isoFLOP frontier, as far as the table carries them."""
        return tuple(one for one in (self.envelope, self.isoflop) if one is not None)

    def to_frame(self) -> pd.DataFrame:
        """One row for each approach and FLOPs: optimal parameters and tokens with 95 % intervals, and exponents."""
        rows: list[tuple[object, ...]] = []
        for frontier in (*self.frontiers, *self.other_methods):
            for flops in self.flops:
                ends = [line.interval_at(flops) or (np.nan, np.nan) for line in (frontier.params, frontier.tokens)]
                values = (frontier.params.at(flops), *ends[0], frontier.tokens.at(flops), *ends[1])
                rows.append((frontier.approach, flops, *values, frontier.params.exponent, frontier.tokens.exponent))
        for one in self.allocations:
            assert self.law is not None
            ends = [interval or (np.nan, np.nan) for interval in (one.params_ci95, one.tokens_ci95)]
            exponents = [self.law.values.get(name, np.nan) for name in ("a", "b")]
            rows.append(("3 (law)", one.flops, one.params, *ends[0], one.tokens, *ends[1], *exponents))
        names = ["approach", "flops", "params", "params_lower", "params_upper", "tokens", "tokens_lower",
                 "tokens_upper", "a", "b"]  # fmt: skip
        return pd.DataFrame(rows, columns=names)

    def minima_frame(self) -> pd.DataFrame:
        """One row a budget of approach 2: its minimum with 95 % intervals, and why it does not count, or ''."""
        rows = []
        for one in () if self.isoflop is None else self.isoflop.minima:
            ends = [interval or (np.nan, np.nan) for interval in (one.params_ci95, one.tokens_ci95)]
            rows.append((one.flops, one.params, *ends[0], one.tokens, *ends[1], one.loss, one.num_points, one.reason))
        names = ["flops", "params", "params_lower", "params_upper", "tokens", "tokens_lower", "tokens_upper", "loss",
                 "num_points", "reason"]  # fmt: skip
        return pd.DataFrame(rows, columns=names)

    def summary(self) -> str:
        """Exponents and optima of every approach, a line each, then warnings."""
        lines = [
            f"{formatting.counted(len(self.runs.loss), 'run')}; N* ~ C^a, D* ~ C^b, 95 % intervals in brackets",
            "",
        ]
        for one in self.frontiers:
            counted = f"{len(one.used)} of {len(one.minima)} " + ("minima" if one is self.isoflop else "runs on it")
            lines.append(f"approach {one.approach}: {exponents(one)}, {counted}")
            lines += [_optimum(one, flops) for flops in self.flops]
        for method in self.other_methods:
            lines.append(f"approach {method.approach}, beside it: {exponents(method)}")
        if self.law is not None:
            a, b = (self.law.coefficient(name) for name in ("a", "b"))
            words = [f"{one.name} {one.value:.4f} [{one.ci95[0]:.4f}, {one.ci95[1]:.4f}]" for one in (a, b)]
            lines.append(f"approach 3 (law): {', '.join(words)}")
            lines += [_line(one.flops, one.params, one.tokens, one.params_ci95) for one in self.allocations]
        lines += [f"approach {name}: not here: {reason}" for name, reason in self.missing.items()]
        return "\n".join([*lines, *(f"warning: {one.text}" for one in self.warnings)])


def exponents(frontier: ComputeOptimalFrontier) -> str:
    """'a 0.4632 [0.45, 0.48], b 0.5368 [0.52, 0.55]'."""

    def words(name: str, line: PowerFit) -> str:
        ends = "" if line.exponent_ci95 is None else f" [{line.exponent_ci95[0]:.4f}, {line.exponent_ci95[1]:.4f}]"
        return f"{name} {line.exponent:.4f}{ends}"

    return f"{words('a', frontier.params)}, {words('b', frontier.tokens)}"


def _optimum(frontier: ComputeOptimalFrontier, flops: float) -> str:
    return _line(flops, frontier.params.at(flops), frontier.tokens.at(flops), frontier.params.interval_at(flops))


def _line(flops: float, params: float, tokens: float, interval: tuple[float, float] | None) -> str:
    ends = "" if interval is None else f" [{', '.join(formatting.count(end) for end in interval)}]"
    return (
        f"  {formatting.power(flops)} FLOPs: N {formatting.count(params)}{ends}, D {formatting.count(tokens)}, "
        f"{formatting.significant(tokens / params)} tokens per parameter"
    )


def approaches(
    runs: IsoFlopRuns,
    *,
    flops: Sequence[float],
    method: Method = DEFAULT_METHOD,
    law: LawOptions | None = None,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> Approaches:
    """All three approaches on the same runs.

    Args:
        runs: parameters, tokens, FLOPs and loss of each run.
        flops: training FLOPs whose optimum is given.
        method: of approach 2.
        law: how approach 3's law is fitted.
        num_draws: draws of the runs' noise behind approach 2's intervals.
        seed: of all draws.

    Raises:
        FitError: for an unknown method, or where none of the approaches works.
    """
    if method not in LEAST_SIZES:
        raise FitError(f"there is no isoFLOP method {method!r}; there are: {', '.join(LEAST_SIZES)}")
    missing: dict[str, str] = {}

    def tried(name: str, make: Callable[[], Found]) -> Found | None:
        try:
            return make()
        except FitError as error:
            missing[name] = str(error)
            return None

    def by(which: Method) -> IsoFlopFrontier:
        return isoflop_frontier(
            runs.params, runs.tokens, runs.flops, runs.loss, method=which, weight_N=runs.weight,
            cluster_N=runs.cluster, num_draws=num_draws, seed=seed,
        )  # fmt: skip

    first = tried("1 (envelope)", lambda: envelope(runs.params, runs.tokens, runs.flops, runs.loss))
    second = tried(f"2 (isoFLOP, {method})", lambda: by(method))
    methods: tuple[Method, ...] = ("window", "parabola", "akima")
    rest: list[IsoFlopFrontier] = []
    for other in methods:
        if other != method and (found := tried(f"2 (isoFLOP, {other})", lambda other=other: by(other))):  # type: ignore[misc]
            rest.append(found)
    third = tried("3 (law)", lambda: _law(runs, law or LawOptions(), flops, seed))
    if first is None and second is None and third is None:
        raise FitError("no approach works on this table: " + "; ".join(f"{k}: {v}" for k, v in missing.items()))
    fitted, allocations = third or (None, ())
    return Approaches(
        envelope=first, isoflop=second, other_methods=tuple(rest), law=fitted, missing=missing, flops=tuple(flops),
        allocations=allocations, runs=runs,
    )  # fmt: skip


def _law(
    runs: IsoFlopRuns, options: LawOptions, flops: Sequence[float], seed: int
) -> tuple[Fit, tuple[Allocation, ...]]:
    fitted = fit_law(
        "chinchilla", {"N": runs.params, "D": runs.tokens}, runs.loss, objective=options.objective,
        delta=options.delta, weights=runs.weight, fixed=options.fixed, tied=options.tied, bounds=options.bounds,
        bootstrap=options.bootstrap, clusters=runs.cluster, seed=seed,
    )  # fmt: skip
    return fitted, compute_optimal_allocation(fitted, flops)
