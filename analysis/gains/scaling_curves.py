"""The law of each series along one axis (FLOPs, seconds, parameters, slots), with replicates that carry its doubt.

1. Every series is a straight line in logarithms, unless the table shows an irreducible loss: an F test at 20 %
   between the lines and the laws with an offset that all series share. All series of an axis get the same form, since
   a difference between series must not be a difference between forms.
2. The noise of a run is that of its replicates (`inference.variance_components`). Where the cell means scatter about
   the laws by more than it explains (F test at 5 %), or where there are no replicates, the scatter about the laws is
   the noise, with the degrees of freedom that the laws leave. Where neither is known there are no intervals.
3. Replicates of the parameters are refits to the fitted losses plus noise, scaled by sqrt(df / chi-square): for lines
   they follow the exact multivariate t distribution of the parameters.

Refused where a series has several model sizes at one number of FLOPs: a law through all of them would be none of the
best size's.

Shapes: B replicates, N runs, P parameters, X values of x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri

from analysis import formatting
from analysis.errors import FitError
from analysis.gains.power_law import Cells, Lines, Offsets, SeriesFit, bend, fit_lines, fit_offsets, fitted, misfit
from analysis.gains.run_noise import MIN_DEGREES, codes, noise_of_runs
from analysis.inference.replicate_noise import NUM_REPLICATES, Noise, generator, percentile_interval
from analysis.inference.variance_components import NoiseModel, of_scatter, of_units
from analysis.interval import ConfidenceInterval
from analysis.laws.law import Law
from analysis.tables.runs import Budget, FloatArray, IntArray, Runs

SIGNIFICANCE = 0.05
"""Of the test whether the cells scatter about the laws by more than noise explains."""
OFFSET_SIGNIFICANCE = 0.2
"""Of the test whether there is an irreducible loss: one that is fitted without need makes the intervals a little wider,
one that is missed shifts the multipliers."""
SCATTER = "scatter of the budgets about the laws"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What is spent."""

    key: str
    column: str
    words: str
    unit: str = ""
    """Of one value, as in '1e18 FLOPs'."""
    what: str = ""
    """What a multiplier is of: 'compute', 'time', 'parameters'."""
    level: str = "budget"
    """What a step along it is called."""
    common_offset: bool = True
    """Whether all series approach one irreducible loss along it."""


FLOPS = Axis(key="flops", column="flops_train", words="training FLOPs", unit="FLOPs", what="compute")
SECONDS = Axis(key="seconds", column="train_seconds", words="training seconds", unit="s", what="time")
PARAMETERS = Axis(
    key="parameters", column="params", words="parameters", unit="parameters", what="parameters", level="size"
)
SLOTS = Axis(key="slots", column="num_slots", words="slots", level="table size", common_offset=False)


@dataclass(frozen=True, kw_only=True)
class SeriesCurve:
    """One series' law."""

    series: str
    fit: SeriesFit
    replicates: FloatArray | None
    """Parameters under the noise, as [B, P]; None where the noise is unknown."""
    lower_x: float
    upper_x: float
    num_budgets: int

    def loss(self, x_X: FloatArray) -> FloatArray:
        """Predicted loss in nats, as [X]."""
        return np.asarray(np.exp(self.fit.log_loss(self.fit.best, x_X)[0]))

    def band(self, x_X: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        """Pointwise 95 % band of the predicted loss, as two [X]."""
        if self.replicates is None:
            return None
        loss_BX = np.exp(self.fit.log_loss(self.replicates, x_X))
        lower_X, upper_X = np.quantile(loss_BX, [0.025, 0.975], axis=0)
        return lower_X, upper_X

    def slope_interval(self) -> ConfidenceInterval | None:
        """95 % interval of the exponent alpha; None where the noise is unknown."""
        return None if self.replicates is None else percentile_interval(self.fit.slope(self.replicates))


@dataclass(frozen=True, kw_only=True)
class Curves:
    """The laws of all series along one axis."""

    axis: Axis
    law: Law
    why: str
    """Why this form, in words."""
    series: dict[str, SeriesCurve]
    noise: Noise | None
    """In log loss: about the relative noise of one run. None where it is unknown."""
    no_interval_because: str
    warnings: tuple[str, ...]


def fit_curves(
    runs: Runs, axis: Axis, *, clustered: bool = False, num_replicates: int = NUM_REPLICATES, seed: int = 0
) -> Curves:
    """Fit the laws of every series that has runs at two or more levels of `axis`.

    Args:
        runs: The compared runs.
        axis: What the laws run along.
        clustered: Rows are checkpoints, and `runs.seed` numbers the run that each is of: then runs are what counts,
            never their checkpoints.
        num_replicates: Of the parameters, for the intervals.
        seed: Of the replicates; the same seed gives the same intervals.

    Raises:
        FitError: No series has two levels, or a series has several model sizes at one level.
    """
    several = [label for label in runs.labels if runs.shares_flops(label)]
    if several:
        raise FitError(
            f"{formatting.series(several[0])} has several model sizes at one number of {axis.unit or axis.words}, and a"
            " law through all sizes is not that of the best one"
        )
    counts = {label: len(runs.budgets(label)) for label in runs.labels}
    labels = [label for label, count in counts.items() if count >= 2]
    if not labels:
        raise FitError(f"a law needs runs at two {axis.level}s or more; every series has done runs at one only")
    chosen = _of_series(runs, labels)
    cells, cell_N = _cells(chosen, axis, labels)
    model = noise_of_runs(chosen, np.log(chosen.number("loss_nats")))
    laws, why = _choose(cells, model, axis)
    known, scatter = _noise(laws, cell_N, chosen, model, clustered)
    drawn = None if known is None else _replicates(laws, cell_N, known, num_replicates, (axis.key, seed))
    x_N = chosen.number(axis.column)
    series = {
        label: SeriesCurve(
            series=label,
            fit=SeriesFit(law=laws.law, theta=laws.theta[at], num_runs=int(chosen.of(label).sum())),
            replicates=None if drawn is None else drawn[:, at],
            lower_x=float(x_N[chosen.of(label)].min()),
            upper_x=float(x_N[chosen.of(label)].max()),
            num_budgets=counts[label],
        )
        for at, label in enumerate(labels)
    }
    return Curves(
        axis=axis,
        law=laws.law,
        why=why,
        series=series,
        noise=None if known is None else known.pooled,
        no_interval_because="" if known is not None else _unknown(laws, axis, clustered),
        warnings=_warnings(axis, [label for label in counts if label not in labels], model is not None, scatter),
    )


def _of_series(runs: Runs, labels: Sequence[str]) -> Runs:
    """The runs of some series."""
    rows = np.flatnonzero(np.isin(np.array(runs.series), labels))
    budgets = [Budget(name=runs.budget[row], flops=float(runs.budget_flops[row])) for row in rows]
    return runs.regrouped(rows, series=[runs.series[row] for row in rows], budgets=budgets)


def _cells(runs: Runs, axis: Axis, labels: Sequence[str]) -> tuple[Cells, IntArray]:
    """Mean log losses of series x level, and the number of its cell for each run."""
    series_N = np.array([labels.index(label) for label in runs.series], dtype=np.int64)
    cell_N = codes(series_N, codes(np.array(runs.budget)))
    count = np.bincount(cell_N)
    first = np.unique(cell_N, return_index=True)[1]
    cells = Cells(
        series=series_N[first],
        log_x=np.bincount(cell_N, np.log(runs.number(axis.column))) / count,
        log_loss=np.bincount(cell_N, np.log(runs.number("loss_nats"))) / count,
        weight=count.astype(np.float64),
    )
    return cells, cell_N


def _choose(cells: Cells, model: NoiseModel | None, axis: Axis) -> tuple[Lines | Offsets, str]:
    """Lines, or laws with an irreducible loss where the table shows one (see the module); and the reason in words."""
    lines = fit_lines(cells)
    levels = int(np.bincount(cells.series).max())
    groups: tuple[tuple[int, ...], ...] = tuple((at,) for at in range(cells.num_series))
    if axis.common_offset:
        groups = (tuple(range(cells.num_series)),)
    rest = len(cells) - 2 * cells.num_series - len(groups)
    straight = "so the law is a straight line in logarithms, to be read inside the measured range only"
    if levels < 3 or rest < 0 or (model is None and rest < MIN_DEGREES):
        return lines, f"{levels} {axis.level}s are too few to tell an irreducible loss from a slope, {straight}"
    gained = bend(lines, groups)
    if model is None:
        square, degrees = (misfit(lines) - gained) / rest, float(rest)
    else:
        square, degrees = model.own.std**2, model.own.degrees
    critical = float(fdtri(len(groups), degrees, 1 - OFFSET_SIGNIFICANCE))
    offsets = fit_offsets(cells, groups) if gained > len(groups) * critical * square else None
    if offsets is None:
        return lines, f"the {axis.level}s do not tell an irreducible loss from a slope (F test at 20 %), {straight}"
    whose = "which all series share" if axis.common_offset else "of each series"
    return offsets, f"the losses bend away from a straight line (F test at 20 %): an irreducible loss, {whose}"


def _noise(
    laws: Lines | Offsets, cell_N: IntArray, runs: Runs, model: NoiseModel | None, clustered: bool
) -> tuple[NoiseModel | None, bool]:
    """The noise of the runs in log loss, and whether it is their scatter about the laws."""
    degrees = len(laws.cells) - laws.num_parameters
    if model is not None:
        own, square = model.own, misfit(laws) / max(degrees, 1)
        if degrees <= 0 or square <= own.std**2 * float(fdtri(degrees, own.degrees, 1 - SIGNIFICANCE)):
            return model, False
    if clustered:
        unit_N = codes(np.array(runs.series), runs.seed)
        residual_N = np.log(runs.number("loss_nats")) - fitted(laws)[cell_N]
        found = of_units(residual_N, laws.num_parameters, unit_N, SCATTER)
        return found, found is not None
    if degrees < (MIN_DEGREES if model is None else 1):
        return None, False
    return of_scatter(float(np.sqrt(misfit(laws) / degrees)), degrees, len(cell_N), SCATTER), True


def _replicates(
    laws: Lines | Offsets, cell_N: IntArray, noise: NoiseModel, num: int, stream: tuple[str, int]
) -> FloatArray:
    """Parameters refitted to the fitted losses plus noise as uncertain as its estimate, as [B, F, P]."""
    cells = laws.cells
    shock_BN = np.empty((num, len(cells)))
    for at in range(cells.num_series):
        own_N = cells.series[cell_N] == at
        run_BN = noise.shocks(num, own_N, generator(f"{stream[0]}/{at}", stream[1]))
        for cell in np.flatnonzero(cells.series == at):
            shock_BN[:, cell] = run_BN[:, cell_N[own_N] == cell].mean(axis=1)
    degrees = _degrees_at_end(cells, cell_N, noise)
    scale_B = np.sqrt(degrees / generator(f"{stream[0]}/scale", stream[1]).chisquare(degrees, size=num))
    return laws.refit(fitted(laws) + scale_B[:, None] * shock_BN)


def _degrees_at_end(cells: Cells, cell_N: IntArray, model: NoiseModel) -> float:
    """Degrees of freedom of what gains are read off: the losses of all series at the ends of their ranges."""
    weight_N = np.zeros(len(cells))
    for at in range(cells.num_series):
        own = np.flatnonzero(cells.series == at)
        count, log_x = cells.weight[own], cells.log_x[own]
        away = log_x - float(np.average(log_x, weights=count))
        weight_N[own] = count / count.sum() + away.max() * count * away / float((count * away**2).sum())
    return model.contrast(weight_N[cell_N] / cells.weight[cell_N]).degrees


def _unknown(laws: Lines | Offsets, axis: Axis, clustered: bool) -> str:
    if clustered:
        return (
            f"the rows are checkpoints of too few runs: the laws have {laws.num_parameters} parameters, and it takes"
            f" {MIN_DEGREES} more runs than that, or two runs with the same checkpoints, to know the noise of a run"
        )
    degrees = max(len(laws.cells) - laws.num_parameters, 0)
    return (
        f"no {axis.level} has a second seed, and the laws leave {degrees} degree{'s' * (degrees != 1)} of freedom about"
        f" them (it takes {MIN_DEGREES}), so the noise of a run is unknown"
    )


def _warnings(axis: Axis, left_out: Sequence[str], replicated: bool, scatter: bool) -> tuple[str, ...]:
    texts = [
        f"{formatting.series(label)} has done runs at one {axis.level} only, so it has no law against {axis.words}"
        for label in left_out
    ]
    if scatter and replicated:
        texts.append(
            f"the losses bend away from the law against {axis.words} by more than the seeds explain, so the laws'"
            f" intervals use the scatter of the {axis.level}s about them"
        )
    if scatter and not replicated:
        texts.append(
            "there is one seed in each cell: the laws' intervals rest on the scatter about them, and hold nothing of"
            " what the runs of one seed have in common"
        )
    return tuple(texts)
