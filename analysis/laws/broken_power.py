"""Curves in one quantity that bend: Alabdulmohsin's M1 to M4, and smoothly broken power laws (BNSL).

x is whatever grows: compute, tokens, parameters. Signs are those of the papers: with M1 to M4 a loss that falls with x
has c < 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.errors import FitError
from analysis.laws.autodiff import Jet, log_sum, solve_rising
from analysis.laws.law import FloatArray, Law, Parameter, Symbols
from analysis.laws.terms import EXPONENTS, X, amplitude, exponent, offset

_SOURCE = "Alabdulmohsin et al. 2022, arXiv 2209.06640, section 3"
_FALLING = tuple(-value for value in EXPONENTS)


def _c(lower: float = -5.0, upper: float = 5.0) -> Parameter:
    return exponent("c", "exponent of x; below zero the loss falls", grid=_FALLING, lower=lower, upper=upper)


M1 = Law(
    name="m1",
    formula="L = beta x^c",
    source=_SOURCE,
    columns=(X,),
    parameters=(amplitude("beta", "loss at x = 1"), _c()),
    form=lambda p, x: p["ln beta"] + p["c"] * x["ln x"],
    linear=("beta",),
)

M2 = Law(
    name="m2",
    formula="L = beta x^c + eps_inf",
    source=_SOURCE,
    columns=(X,),
    parameters=(amplitude("beta", "loss above eps_inf at x = 1"), offset("eps_inf"), _c()),
    form=lambda p, x: log_sum(p["ln beta"] + p["c"] * x["ln x"], p["ln eps_inf"]),
    linear=("beta", "eps_inf"),
)

M3 = Law(
    name="m3",
    formula="L = beta (1/x + gamma)^-c + eps_inf",
    source=_SOURCE,
    columns=(X,),
    parameters=(
        amplitude("beta", "loss above eps_inf where 1/x + gamma = 1"),
        offset("eps_inf"),
        _c(upper=0.0),
        Parameter(
            name="gamma",
            meaning="1/x at which the curve flattens; its lower bound stands for never",
            lower=1e-40,
            upper=1e10,
            log=True,
            grid=(0.5, 0.75, 1.0, 1.3, 1.8),
            relative_to="x",
            power=-1.0,
        ),
    ),
    form=lambda p, x: log_sum(p["ln beta"] - p["c"] * log_sum(-x["ln x"], p["ln gamma"]), p["ln eps_inf"]),
    linear=("beta", "eps_inf"),
)


def _m4(p: Symbols, x: Symbols) -> Jet:
    """L = eps_inf + q (eps_0 - eps_inf) with q in (0, 1), solved for v = logit(q).

    ln q - alpha ln(1 - q) = ln beta + c ln x - (1 - alpha) ln(eps_0 - eps_inf), which rises with v.
    """
    log_span = p["ln above"]
    right = p["ln beta"] + p["c"] * x["ln x"] - (1.0 - p["alpha"]) * log_span
    guess = np.where(right.value < 0, right.value, right.value / np.maximum(p["alpha"].value, 1e-3))
    v = solve_rising(lambda v: p["alpha"] * v.softplus() - (-v).softplus() - right, guess)
    return log_sum(p["ln eps_inf"], log_span - (-v).softplus())


def _m4_starts(columns: Mapping[str, FloatArray], loss_N: FloatArray) -> FloatArray:
    """With both limits and alpha given, ln beta and c are a straight line through what is left."""
    log_x = np.log(columns["x"])
    design = np.stack([np.ones_like(log_x), log_x], axis=1)
    starts = []
    for low in (0.02, 0.3, 0.6, 0.8, 0.9, 0.97, 0.995):
        for high in (1.005, 1.05, 1.3, 2.0, 4.0):
            eps_inf, eps_0 = low * loss_N.min(), high * loss_N.max()
            for alpha in (0.2, 0.5, 1.0, 2.0):
                left = np.log(loss_N - eps_inf) - alpha * np.log(eps_0 - loss_N)
                log_beta, c = np.linalg.lstsq(design, left, rcond=None)[0]
                starts.append([log_beta, np.log(eps_inf), np.log(eps_0 - eps_inf), alpha, c])
    return np.array(starts)


M4 = Law(
    name="m4",
    formula="(L - eps_inf)/(eps_0 - L)^alpha = beta x^c, eps_0 = eps_inf + above",
    source=_SOURCE,
    columns=(X,),
    parameters=(
        amplitude("beta", "see the formula"),
        offset("eps_inf"),
        Parameter(name="above", meaning="loss of no learning, above eps_inf", lower=1e-6, upper=1e6, log=True),
        Parameter(name="alpha", meaning="how slowly the loss leaves eps_0; 0 gives m2", lower=1e-3, upper=20.0),
        _c(upper=0.0),
    ),
    form=_m4,
    starts=_m4_starts,
)


def broken_power(num_breaks: int = 1) -> Law:
    """A power law with offset whose slope changes smoothly `num_breaks` times (BNSL)."""
    if num_breaks not in (1, 2, 3):
        raise FitError(f"a broken power law has 1 to 3 breaks; given {num_breaks}")
    numbers = [str(number) for number in range(1, num_breaks + 1)]

    def form(p: Symbols, x: Symbols) -> Jet:
        falling = p["ln b"] - p["c0"] * x["ln x"]
        for number in numbers:
            width = p[f"f{number}"]
            falling = falling - p[f"c{number}"] * width * ((x["ln x"] - p[f"ln d{number}"]) / width).softplus()
        return log_sum(p["ln a"], falling)

    parameters = [
        offset("a", "loss that no x removes; its lower bound stands for none"),
        amplitude("b", "loss above a at x = 1"),
        exponent("c0", "exponent before the first break", grid=(0.0, 0.05, 0.15, 0.3, 0.6), lower=-5.0),
    ]
    for at, number in enumerate(numbers):
        places = ((0.15, 0.35, 0.5, 0.65, 0.85), (0.6, 0.8), (0.9,))[at]
        parameters += [
            exponent(f"c{number}", f"change of exponent at break {number}", (-0.2, 0.1, 0.3, 0.7), lower=-5.0),
            Parameter(
                name=f"d{number}", meaning=f"x of break {number}", lower=1e-20, upper=1e60, log=True, grid=places,
                relative_to="x",
            ),
            Parameter(
                name=f"f{number}", meaning=f"width of break {number} in ln x", lower=0.02, upper=20.0, log=True,
                grid=(0.2, 1.0),
            ),
        ]  # fmt: skip
    return Law(
        name="broken_power" if num_breaks == 1 else f"broken_power({num_breaks})",
        formula="L = a + b x^-c0 prod_i (1 + (x/d_i)^(1/f_i))^(-c_i f_i)",
        source="Caballero et al. 2022, arXiv 2210.14891, equation 1",
        columns=(X,),
        parameters=tuple(parameters),
        form=form,
        linear=("a", "b"),
    )
