"""Laws of models in which every parameter works on every token: in one quantity, or in parameters and tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.errors import FitError
from analysis.laws.autodiff import Jet, log_sum
from analysis.laws.law import Column, Derived, FloatArray, Law, Parameter, Symbols, Values
from analysis.laws.terms import COARSE_EXPONENTS, COMPUTE, EXPONENTS, PARAMS, TOKENS, X, amplitude, exponent, offset

POWER = Law(
    name="power",
    formula="L = A x^-alpha",
    source="Hestness et al. 2017, arXiv 1712.00409, without the irreducible term",
    columns=(X,),
    parameters=(
        amplitude("A", "loss at x = 1"),
        exponent("alpha", "exponent; below zero the loss grows with x", lower=-5.0),
    ),
    form=lambda p, x: p["ln A"] - p["alpha"] * x["ln x"],
    linear=("A",),
)

POWER_WITH_OFFSET = Law(
    name="power_with_offset",
    formula="L = E + A x^-alpha",
    source="Henighan et al. 2020, arXiv 2010.14701",
    columns=(X,),
    parameters=(offset(), amplitude("A", "loss above E at x = 1"), exponent("alpha", "exponent of the loss above E")),
    form=lambda p, x: log_sum(p["ln E"], p["ln A"] - p["alpha"] * x["ln x"]),
    linear=("E", "A"),
)


def _share_of_tokens(values: Values) -> FloatArray:
    share: FloatArray = values["alpha"] / (values["alpha"] + values["beta"])
    return share


def _share_of_params(values: Values) -> FloatArray:
    share: FloatArray = values["beta"] / (values["alpha"] + values["beta"])
    return share


CHINCHILLA = Law(
    name="chinchilla",
    formula="L = E + A/N^alpha + B/D^beta",
    source="Hoffmann et al. 2022, arXiv 2203.15556, approach 3",
    columns=(PARAMS, TOKENS),
    parameters=(
        amplitude("A", "of the loss that more parameters remove"),
        amplitude("B", "of the loss that more tokens remove"),
        offset(),
        exponent("alpha", "how fast parameters remove loss"),
        exponent("beta", "how fast tokens remove loss"),
    ),
    form=lambda p, x: log_sum(p["ln A"] - p["alpha"] * x["ln N"], p["ln B"] - p["beta"] * x["ln D"], p["ln E"]),
    linear=("A", "B", "E"),
    derived=(
        Derived(name="a", formula="beta/(alpha + beta): the best N grows as C^a", value=_share_of_params),
        Derived(name="b", formula="alpha/(alpha + beta): the best D grows as C^b", value=_share_of_tokens),
    ),
)


def _kaplan(p: Symbols, x: Symbols) -> Jet:
    ratio = p["alpha_N"] / p["alpha_D"]
    return p["alpha_D"] * log_sum(ratio * (p["ln Nc"] - x["ln N"]), p["ln Dc"] - x["ln D"])


def _kaplan_starts(columns: Mapping[str, FloatArray], loss_N: FloatArray) -> FloatArray:
    """Each exponent, with the constant that would explain all of the middle of the losses, or a part of it."""
    middle = {name: float(np.log(columns[name]).mean()) for name in ("N", "D")}
    log_loss = float(np.log(loss_N).mean())
    starts = []
    for alpha_N in COARSE_EXPONENTS:
        for alpha_D in COARSE_EXPONENTS:
            for share in (0.1, 0.5, 0.9):
                # L^(1/alpha_D) is the sum of both terms: give the first one `share` of it.
                log_Nc = middle["N"] + (log_loss + alpha_D * np.log(share)) / alpha_N
                log_Dc = middle["D"] + (log_loss + alpha_D * np.log(1.0 - share)) / alpha_D
                starts.append([log_Nc, log_Dc, alpha_N, alpha_D])
    return np.array(starts)


KAPLAN = Law(
    name="kaplan",
    formula="L = [(Nc/N)^(alpha_N/alpha_D) + Dc/D]^alpha_D",
    source="Kaplan et al. 2020, arXiv 2001.08361, equation 1.5",
    columns=(PARAMS, TOKENS),
    parameters=(
        Parameter(name="Nc", meaning="parameters at which size alone gives 1 nat", lower=1e-20, upper=1e60, log=True),
        Parameter(name="Dc", meaning="tokens at which data alone give 1 nat", lower=1e-20, upper=1e60, log=True),
        exponent("alpha_N", "exponent of parameters", lower=1e-3),
        exponent("alpha_D", "exponent of tokens", lower=1e-3),
    ),
    form=_kaplan,
    starts=_kaplan_starts,
)

OVERTRAINED = Law(
    name="overtrained",
    formula="L = E + (a M^eta + b M^-eta) C^-eta, M = tokens per parameter",
    source="Gadre et al. 2024, arXiv 2403.08540, equation 4",
    columns=(COMPUTE, Column(name="M", meaning="training tokens per parameter")),
    parameters=(
        amplitude("a", "of the loss that more parameters remove"),
        amplitude("b", "of the loss that more tokens remove"),
        offset(),
        exponent("eta", "exponent of compute and of the tokens per parameter"),
    ),
    form=lambda p, x: log_sum(
        p["ln a"] + p["eta"] * (x["ln M"] - x["ln C"]), p["ln b"] - p["eta"] * (x["ln M"] + x["ln C"]), p["ln E"]
    ),
    linear=("a", "b", "E"),
)


def sum_of_powers(columns: Sequence[str], *, with_offset: bool = True) -> Law:
    """L = E + the sum of A_i / column_i^alpha_i over any columns, each named once."""
    names = tuple(columns)
    if not names or len(set(names)) != len(names):
        raise FitError(f"a sum of powers needs columns, each named once; given: {', '.join(names) or 'none'}")

    def form(p: Symbols, x: Symbols) -> Jet:
        terms = [p[f"ln A_{name}"] - p[f"alpha_{name}"] * x[f"ln {name}"] for name in names]
        return log_sum(*terms, *([p["ln E"]] if with_offset else []))

    grid = EXPONENTS if len(names) < 3 else COARSE_EXPONENTS
    parameters = [amplitude(f"A_{name}", f"of the loss that more {name} removes") for name in names]
    parameters += [exponent(f"alpha_{name}", f"exponent of {name}", grid=grid) for name in names]
    offsets = (offset(),) if with_offset else ()
    return Law(
        name=f"sum_of_powers({', '.join(names)})",
        formula="L = " + " + ".join(["E"] * with_offset + [f"A_{name}/{name}^alpha_{name}" for name in names]),
        source="sums of power terms as in Hoffmann et al. 2022, over the columns named",
        columns=tuple(Column(name=name, meaning="a column of the table") for name in names),
        parameters=(*parameters, *offsets),
        form=form,
        linear=(*(f"A_{name}" for name in names), *(("E",) if with_offset else ())),
    )
