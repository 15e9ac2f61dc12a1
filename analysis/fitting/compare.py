"""`compare`: laws ranked by what they predict of runs they have not seen, and how a headline moves with each choice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import formatting
from analysis.errors import FitError
from analysis.fitting.cross_validation import Data, Options
from analysis.fitting.law_columns import columns_for
from analysis.fitting.model_selection import LawScore, rank
from analysis.fitting.sensitivity import Variant, sensitivity
from analysis.inference.run_noise import compute_scale
from analysis.laws.law import Law
from analysis.laws.registry import LAWS, law_of
from analysis.result import Result
from analysis.tables import Observations, TableLike, TableOptions, observe

if TYPE_CHECKING:
    from typing_extensions import Unpack

FloatArray = npt.NDArray[np.float64]

NOT_BY_DEFAULT = frozenset({"m1", "m2", "m4", "data_constrained_full", "exponential_link", "sigmoid_link"})
"""The same as another law, slow, or no law of a loss."""


@dataclass(frozen=True, kw_only=True)
class Comparison(Result):
    """Laws, the best first, and the sensitivity of the best one's headline."""

    observations: Observations
    scores: tuple[LawScore, ...]
    variants: tuple[Variant, ...]
    """Of the headline coefficient; empty where no law that was fitted has it."""
    scale: FloatArray
    """What was extrapolated along [N]."""

    def to_frame(self) -> pd.DataFrame:
        """One row a law: errors of ln of the loss (root mean square) by what was left out, and AICc."""
        rows = [
            {
                "law": one.law.name,
                "larger_runs": one.extrapolation_rms,
                "left_out_sizes": one.left_out_rms,
                "fitted_runs": one.fit_rms,
                "aicc": one.aicc,
                "reason": one.reason,
            }
            for one in self.scores
        ]
        return pd.DataFrame(rows)

    def summary(self) -> str:
        """A line a law, then a line for each choice about the headline, then warnings."""
        width = max(len(one.law.name) for one in self.scores)
        lines = [
            f"{formatting.counted(len(self.observations), 'point')} of {self.observations.source};"
            " root mean square errors of ln of the loss",
            "",
            f"{'law':<{width}}  {'larger runs':>11}  {'left-out sizes':>14}  {'fitted runs':>11}  {'AICc':>9}",
        ]
        best = min((one.aicc for one in self.scores if math.isfinite(one.aicc)), default=math.nan)
        for one in self.scores:
            if one.fit is None:
                lines.append(f"{one.law.name:<{width}}  {one.reason}")
                continue
            behind = f"{one.aicc - best:+.1f}" if math.isfinite(one.aicc) else "-"
            lines.append(
                f"{one.law.name:<{width}}  {_percent(one.extrapolation_rms):>11}  {_percent(one.left_out_rms):>14}  "
                f"{_percent(one.fit_rms):>11}  {behind:>9}"
            )
        if self.variants:
            lines += ["", "how the headline moves:"]
        for each in self.variants:
            said = each.reason or (
                f"{each.value:.4f} [{each.ci95.lower:.4f}, {each.ci95.upper:.4f}] "
                f" {formatting.counted(each.num_points, 'point')}"
            )
            lines.append(f"  {each.label:<28} {said}")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.observations.warnings)])


def compare(
    table: TableLike | Observations,
    laws: Law | str | Sequence[Law | str] = (),
    *,
    objective: str = "log_huber",
    delta: float | None = None,
    scale: str | None = None,
    headline: str | None = None,
    other_params: Mapping[str, str] | None = None,
    bootstrap: int | None = None,
    seed: int = 0,
    **options: Unpack[TableOptions],
) -> Comparison:
    """Rank laws by their error on runs that they were not fitted to.

    Laws are fitted to the runs below a limit of compute and predict those above, at several limits; that error ranks.
    The error on sizes left out in turn and AICc are listed too. Groups of runs (`cluster`, checkpoints of a run) are
    fitted or left out whole. Then one coefficient, the headline, is fitted under each other objective, exclusion and
    count of parameters.

    Args:
        table: A DataFrame, a path, or observations.
        laws: Laws or their names (default: all whose columns the table has).
        objective: What is minimised, as in `fit`.
        delta: Of a Huber objective.
        scale: The column that is extrapolated along (default: C, else 6 N D, else x).
        headline: The coefficient whose sensitivity is shown (default: the exponent `a` of the best N).
        other_params: Labels of N counted another way, each with the factor that holds it.
        bootstrap: Number of refits to resampled runs for the variants' intervals, instead of the default intervals.
        seed: Of the resampling.
        **options: Which column is what, as in `fit`.

    Raises:
        FitError: No law reads the table's columns or can be fitted, or none that was fitted has the headline.

    Example:
        >>> import numpy as np
        >>> params = np.repeat(np.geomspace(1e7, 1e9, 6), 6)
        >>> tokens = np.tile(np.geomspace(1e9, 3e10, 6), 6)
        >>> noise = 1 + 0.002 * np.random.default_rng(0).standard_normal(36)
        >>> loss = (1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28) * noise
        >>> found = compare({"N": params, "D": tokens, "loss": loss}, ["kaplan", "chinchilla"])
        >>> list(found.to_frame()["law"])
        ['chinchilla', 'kaplan']
    """
    chosen = [law_of(law) for law in ([laws] if isinstance(laws, str | Law) else laws)]
    candidates = chosen or [law for name, law in LAWS.items() if name not in NOT_BY_DEFAULT]
    reads = {column.name for law in candidates for column in law.columns}
    runs = observe(table, reads=reads, **options)
    columns = {law.name: found for law in candidates if (found := _columns(law, runs)) is not None}
    if not chosen:
        candidates = [law for law in candidates if law.name in columns]
    if not candidates:
        raise FitError("no law reads the columns that are mapped; give --params with --tokens or --flops, or --law")
    data, how = _data(runs, scale), Options(objective=objective, delta=delta)
    scores = rank(candidates, columns, data, how)
    if all(one.fit is None for one in scores):
        raise FitError("no law could be fitted: " + "; ".join(f"{one.law.name}: {one.reason}" for one in scores))
    variants = _variants(scores, columns, runs, data, how, headline, other_params or {}, bootstrap or 0, seed)
    return Comparison(observations=runs, scores=scores, variants=variants, scale=data.scale)


def _data(runs: Observations, scale: str | None) -> Data:
    """The observations used for every law. Raises FitError for a column of held-out rows."""
    if runs.held_out is not None:
        raise FitError(
            "a train/test column (--train) is read by fit; compare leaves runs out by itself. Leave the option out,"
            " or keep rows by --where"
        )
    scale_N = _scale(runs, scale)
    return Data(columns={}, loss=runs.loss, scale=scale_N, size=runs.columns.get("N", scale_N), clusters=runs.cluster,
                weights=runs.weight, stderr=runs.stderr)  # fmt: skip


def _columns(law: Law, runs: Observations) -> dict[str, FloatArray] | None:
    try:
        return columns_for(law, runs.columns)
    except FitError:
        return None


def _scale(runs: Observations, asked: str | None) -> FloatArray:
    if asked is not None and asked not in runs.columns:
        raise FitError(f"--scale {asked}: no such column is mapped; there are: {', '.join(runs.columns)}")
    return compute_scale(runs.columns) if asked is None else runs.columns[asked]


def _variants(
    scores: tuple[LawScore, ...],
    columns: Mapping[str, Mapping[str, FloatArray]],
    runs: Observations,
    data: Data,
    options: Options,
    headline: str | None,
    other_params: Mapping[str, str],
    bootstrap: int,
    seed: int,
) -> tuple[Variant, ...]:
    """Of the best law that has the headline."""
    name = headline or "a"
    for one in scores:
        derived = {each.name for each in one.law.derived}
        if one.fit is None or name not in (derived if headline is None else derived | set(one.law.names)):
            continue
        own = columns[one.law.name]
        counted = {f"N as {label}": {**own, "N": runs.columns[factor]} for label, factor in other_params.items()}
        return sensitivity(
            one.law, replace(data, columns=own), name, options, counted=counted, bootstrap=bootstrap, seed=seed
        )
    if headline is not None:
        raise FitError(f"no law that was fitted has a coefficient '{headline}' (--headline)")
    return ()


def _percent(share: float) -> str:
    return f"{formatting.significant(100 * share)} %" if math.isfinite(share) else "-"
