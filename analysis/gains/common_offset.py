"""The laws of several series with one irreducible loss: L_f = E + A_f x^-alpha_f, fitted together.

E is the entropy of the data (Hoffmann et al. 2022, section 3.3), which every series of a table is measured on, so the
series share it. Fitted alone, a series of few levels does not separate E from its slope; together they do, and a
difference between series is never a difference between their offsets. Refuses nothing: `scaling_curves` decides whether
the table determines E.

Shapes: F series, G starts, N points, P = 2 F + 1 parameters (E first, then A and alpha of each series).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from analysis.laws.autodiff import Jet
from analysis.laws.dense import POWER_WITH_OFFSET
from analysis.laws.law import Column, Law, Parameter, Symbols
from analysis.laws.terms import amplitude, exponent

FloatArray = npt.NDArray[np.float64]

SHARES = (0.1, 0.4, 0.7, 0.9)
"""Of the lowest loss: the values of E that the fit starts from."""


def common_offset_law(num_series: int, lowest: float) -> Law:
    """The joint law of `num_series` series.

    It reads two columns a series: `is0` is 1 for runs of the first series and 0 elsewhere, `x0` is ln x there and 0
    elsewhere, and so on. E may fall to `lowest`, below zero, where its least squares are no different from any other
    minimum; what is below zero counts as none afterwards.
    """
    numbers = range(num_series)

    def form(p: Symbols, x: Symbols) -> Jet:
        terms = [p[f"ln A{at}"] * x[f"is{at}"] - p[f"alpha{at}"] * x[f"x{at}"] for at in numbers]
        # E itself moves, not ln E, which has no bound to come to rest at where E is zero.
        return (p["E"] + sum(terms[1:], terms[0]).exp()).log()

    return Law(
        name=f"power_with_common_offset_{num_series}",
        formula="L = E + A x^-alpha, E common to all series",
        source="Hoffmann et al. 2022, arXiv 2203.15556, section 3.3, along one axis",
        columns=tuple(
            column
            for at in numbers
            for column in (
                Column(name=f"is{at}", meaning=f"1 for runs of series {at}", closed=True),
                Column(name=f"x{at}", meaning=f"ln x of runs of series {at}", lower=-np.inf),
            )
        ),
        parameters=(
            Parameter(name="E", meaning="irreducible loss, common to all series", lower=lowest, upper=1e6),
            *(
                parameter
                for at in numbers
                for parameter in (
                    amplitude(f"A{at}", f"loss of series {at} above E at x = 1"),
                    exponent(f"alpha{at}", f"exponent of series {at}", lower=-5.0, upper=50.0),
                )
            ),
        ),
        form=form,
    )


def columns_of(series_N: npt.NDArray[np.int64], x_N: FloatArray, num_series: int) -> dict[str, FloatArray]:
    """The columns that the joint law reads."""
    columns: dict[str, FloatArray] = {}
    for at in range(num_series):
        is_N = (series_N == at).astype(np.float64)
        columns |= {f"is{at}": is_N, f"x{at}": is_N * np.log(x_N)}
    return columns


def of_series(theta_BP: FloatArray, at: int) -> FloatArray:
    """The parameters [B, 3] of one series in the form of `laws.dense.POWER_WITH_OFFSET`: ln E, ln A, alpha."""
    lowest = POWER_WITH_OFFSET.lower[0]  # stands for no offset
    log_offset_B = np.log(np.maximum(theta_BP[:, 0], np.exp(lowest)))
    return np.stack([log_offset_B, theta_BP[:, 1 + 2 * at], theta_BP[:, 2 + 2 * at]], axis=1)


def starts(num_series: int, columns: Mapping[str, FloatArray], loss_N: FloatArray) -> FloatArray:
    """For each E of a grid, lines through ln(L - E) against ln x (least squares)."""
    starts_GP = []
    for share in SHARES:
        least = share * float(loss_N.min())
        theta = [least]
        for at in range(num_series):
            own_N = columns[f"is{at}"] > 0
            slope, level = np.polyfit(columns[f"x{at}"][own_N], np.log(loss_N[own_N] - least), 1)
            theta += [level, max(-slope, 1e-3)]
        starts_GP.append(theta)
    return np.array(starts_GP)
