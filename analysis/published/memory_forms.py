"""The forms of memory laws fitted to the published Figure 1: answer NLL against table size at one base.

One base and one length of training leave only the table to vary, on five sizes with one run each, so every form is
brought to three free coefficients: the floor is 0 nats (a table that knew every answer would have none), and the terms
of N and D are out. What is left is

- effective: A (1 + m (T/N)^gamma)^-0.34, with the exponent of N held at 0.34 (Hoffmann et al. 2022);
- additive: M (1 + T/T0)^-gamma;
- log-linear: E - G ln(1 + K/K0).

Held out: the largest table (a factor of 4 in slots), and each size in turn. There are no replicates, so there is no
interval, and two degrees of freedom are left: errors are what can be said.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.fitting import fit_law
from analysis.fitting.fit_law import refit_part
from analysis.inference.result import Fit
from analysis.laws.law import FloatArray, Law
from analysis.laws.registry import LAWS
from analysis.published import sources
from analysis.published.comparison import Comparison
from analysis.published.fits import Find
from analysis.published.memory_layers import Curve, figure_1
from analysis.published.sources import find

BASE = 1.3e9
"""Parameters of the dense base."""
VALUE_WIDTH = 2048
"""Table parameters a slot."""
HOFFMANN = 0.34
NOTHING = 0.0
FORMS: dict[str, dict[str, float]] = {
    "memory_effective": {"B": NOTHING, "beta": 0.3, "E": 1e-6, "alpha": HOFFMANN},
    "memory_additive": {"A": NOTHING, "alpha": 0.3, "B": NOTHING, "beta": 0.3, "E": 1e-6},
    "memory_log_linear": {"A": NOTHING, "alpha": 0.3, "B": NOTHING, "beta": 0.3},
}
"""What each law is held at."""


@dataclass(frozen=True, kw_only=True)
class PublishedForm:
    """One form fitted to one task's NLL."""

    task: str
    law: Law
    coefficients: dict[str, float]
    """Those that are free."""
    fit_rms: float
    """Nats, on all sizes."""
    largest_error: float
    """Predicted minus published NLL of the largest table, fitted to the others; nats."""
    left_out_rms: float
    """Of each size inside the range, predicted from the others; nats."""


def published_forms(where: Find = find) -> Comparison:
    """The forms on the published figure, as notes: nothing was published to hold them against."""
    notes = [
        f"{one.task}, {one.law.name}: {', '.join(f'{name} {value:.3g}' for name, value in one.coefficients.items())};"
        f" error {one.fit_rms:.3f} nats on all sizes, {one.left_out_rms:.3f} on sizes left out,"
        f" {one.largest_error:+.3f} on the largest table from the others"
        for one in memory_forms(where(sources.MEMORY_FIGURE))
    ]
    return Comparison(
        name="memory_forms",
        title="forms of a memory law on Figure 1 of Memory Layers at Scale, fits of ours with three free coefficients",
        source="Berges et al. 2024, arXiv 2412.09764",
        lines=(),
        notes=tuple(notes),
    )


def memory_forms(path: Path) -> tuple[PublishedForm, ...]:
    """Every form on every task's NLL, as the figure was digitised.

    Args:
        path: The digitised figure.
    """
    curves = [curve for curve in figure_1(path) if curve.metric == "nll"]
    return tuple(_form(curve, name) for curve in curves for name in FORMS)


def _form(curve: Curve, name: str) -> PublishedForm:
    table_N = np.array(curve.table_params)
    columns = {"T": table_N, "K": table_N / VALUE_WIDTH, "N": np.full(len(table_N), BASE), "D": np.ones(len(table_N))}
    law = LAWS[name]
    # A form that only gives the value has no logarithm to take a term out of: an amplitude of almost 0 does.
    fixed = {key: max(value, law.parameters[law.index(key)].lower) if law.gives == "value" else value
             for key, value in FORMS[name].items()}  # fmt: skip
    nll_N = np.array(curve.values)
    whole = fit_law(law, columns, nll_N, objective="lsq", fixed=fixed)
    # Sizes inside the range, and the largest: from tables alone nothing tells what a model without one reaches.
    errors = np.array([_left_out(whole, columns, nll_N, at) for at in range(1, len(nll_N))])
    return PublishedForm(
        task=curve.task,
        law=law,
        coefficients={key: value for key, value in whole.values.items() if key not in fixed},
        fit_rms=float(np.sqrt(np.mean(whole.residuals**2))),
        largest_error=float(errors[-1]),
        left_out_rms=float(np.sqrt(np.mean(errors[:-1] ** 2))),
    )


def _left_out(whole: Fit, columns: dict[str, FloatArray], nll_N: FloatArray, at: int) -> float:
    kept_N = np.arange(len(nll_N)) != at
    predicted = whole.predict_all(
        refit_part(whole, kept_N)[None, :], {name: values[[at]] for name, values in columns.items()}
    )
    return float(predicted[0, 0] - nll_N[at])
