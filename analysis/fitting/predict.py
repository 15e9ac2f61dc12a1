"""`predict`: where a law lies at other parameters and tokens, and where the loss of the next run there will lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import formatting
from analysis.errors import FitError
from analysis.fitting.law_columns import columns_for
from analysis.inference.prediction import PredictedLoss, predicted_loss
from analysis.inference.result import Fit, FitWarning
from analysis.inference.run_noise import RunNoise, compute_scale, run_noise
from analysis.result import Result
from analysis.tables.frames import TableLike, as_frame

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Predictions(Result):
    """Losses at runs that were not made, with an interval for the law and a wider one for the next run."""

    fit: Fit
    noise: RunNoise | None
    """Of one run; None where it cannot be estimated."""
    frame: pd.DataFrame
    """One row a run: the law's columns, loss, law_lower, law_upper, run_lower, run_upper, extrapolation (its compute
    over the greatest that was fitted)."""
    warnings: tuple[FitWarning, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row a run, as in `frame`; an infinite end means that the fitted runs give no bound."""
        return self.frame.copy()

    def summary(self) -> str:
        """A line a run: loss, the law's 95 % interval, the next run's."""
        names = [column.name for column in self.fit.law.columns]
        lines = [f"{self.fit.law.name}, fitted to {formatting.counted(self.fit.num_points, 'run')}"]
        lines.append(f"noise of a run: {'not known' if self.noise is None else self.noise.words}")
        for _, row in self.frame.iterrows():
            at = ", ".join(f"{name} {formatting.count(row[name])}" for name in names)
            ahead = "" if row["extrapolation"] <= 1.0 + 1e-9 else f"  ({row['extrapolation']:.3g} times the compute)"
            lines.append(
                f"  {at}: {row['loss']:.4f}  law [{row['law_lower']:.4f}, {row['law_upper']:.4f}]"
                f"  next run [{row['run_lower']:.4f}, {row['run_upper']:.4f}]{ahead}"
            )
        return "\n".join([*lines, *(f"warning: {one.text}" for one in self.warnings)])


def predict(
    fit: Fit,
    at: TableLike | Mapping[str, npt.ArrayLike],
    *,
    setting: npt.ArrayLike | None = None,
    seed: int = 0,
) -> Predictions:
    """Predict the loss of runs that were not made.

    Two 95 % intervals are given: `law_lower` to `law_upper` holds the law itself, `run_lower` to `run_upper` the loss
    of the next run, whose noise comes from replicates where the fitted table has them, else from the residuals. Noise
    that changes with compute is extrapolated by a law of its own, with that law's uncertainty. Nothing here shows that
    the law holds beyond the runs it was fitted to: `extrapolation` gives how far it is extrapolated.

    Args:
        fit: A fit, as `analysis.fit` gives it.
        at: The runs: a table or a mapping with the law's columns by letter (N and D, or N and C for D = C / (6 N)).
        setting: Each fitted run's setting [N], equal for replicates; by default that of the fit's table.
        seed: Of the simulated noise.

    Returns:
        The predictions; `to_frame()` has a row for each run of `at`.

    Raises:
        FitError: `fit` is none, or `at` has no row, lacks a column that the law reads, or has a value that it cannot
            take.

    Example:
        >>> import numpy as np
        >>> from analysis.fitting import fit
        >>> flops = np.geomspace(1e17, 1e20, 20)
        >>> noise = 1 + 0.003 * np.random.default_rng(1).standard_normal(20)
        >>> loss = (1.7 + 40 * flops**-0.08) * noise
        >>> found = fit({"C": flops, "loss": loss}, "power_with_offset", flops="C")
        >>> ahead = predict(found, {"C": [1e21]}).to_frame()
        >>> round(float(ahead["loss"][0]), 1), bool(ahead["run_lower"][0] < ahead["law_lower"][0])
        (2.5, True)
    """
    if not isinstance(fit, Fit):
        raise FitError(f"predict needs a fit, as analysis.fit(...) gives it; given {type(fit).__name__}")
    frame = as_frame(at)
    if len(frame) == 0:
        raise FitError("no run to predict is given: the table of them has no row")
    columns = columns_for(fit.law, _numbers(frame), ahead=True)
    if setting is None and fit.table is not None:
        setting = fit.table.setting
    warnings = list(fit.warnings)
    try:
        noise = run_noise(fit, setting)
    except FitError as error:
        noise = None
        warnings.append(FitWarning(code="no_noise", text=f"{error}; the next run has no interval"))
    found = predicted_loss(fit, columns, noise, seed=seed)
    if found.unknown.any():
        text = (
            f"{formatting.counted(int(found.unknown.sum()), 'run')} to predict cannot be predicted"
            " from the fitted runs: infinite intervals"
        )
        warnings.append(FitWarning(code="not_identified", text=text))
    warnings += _outside(fit, columns)
    return Predictions(fit=fit, noise=noise, frame=_rows(fit, columns, found), warnings=tuple(warnings))


def _rows(fit: Fit, columns: Mapping[str, FloatArray], found: PredictedLoss) -> pd.DataFrame:
    ends = {"law_lower": found.of_law[0], "law_upper": found.of_law[1], "run_lower": found.of_run[0],
            "run_upper": found.of_run[1]}  # fmt: skip
    extrapolation = compute_scale(columns) / float(compute_scale(fit.columns).max())
    return pd.DataFrame({**columns, "loss": found.loss, **ends, "extrapolation": extrapolation})


def _outside(fit: Fit, columns: Mapping[str, FloatArray]) -> list[FitWarning]:
    """A warning for each column with values more than a factor of two below the fitted runs.

    The summary prints how far a run lies above them, as a factor of compute, in the run's line.
    """
    warnings = []
    for name, values in columns.items():
        lowest = float(fit.columns[name].min())
        if num := int((values * 2 < lowest).sum()):
            text = (
                f"{name} of {formatting.counted(num, 'run')} to predict lies far below the fitted runs, which begin at"
                f" {formatting.count(lowest)}: an extrapolation"
            )
            warnings.append(FitWarning(code="extrapolation", text=text))
    return warnings


def _numbers(frame: pd.DataFrame) -> dict[str, FloatArray]:
    """The columns that hold numbers; a law reads no others."""
    found = {}
    for name in frame.columns:
        try:
            found[name] = frame[name].to_numpy(dtype=np.float64)
        except (TypeError, ValueError):
            continue
    return found
