"""Laws of models in which a token uses a part of the parameters: experts, their granularity, and sparsity.

The forms `experts_effective`, `experts_additive` and `experts_log_linear` are those of memory tables
(`analysis.laws.memory`) with the experts beyond the first in the place of the table, so that both families can be asked
the same question; the others are published.
"""

from __future__ import annotations

import math

from analysis.laws.autodiff import Jet, log_sum
from analysis.laws.law import Column, Law, Parameter, Symbols
from analysis.laws.terms import (
    ACTIVE,
    COARSE_EXPONENTS,
    EXPERTS,
    GRANULARITY,
    PARAMS,
    SPARSITY,
    TOKENS,
    amplitude,
    exponent,
    log_growth,
    offset,
    presence,
)

_LN10 = math.log(10.0)

_SATURATION = (
    Parameter(
        name="Es", meaning="effective experts of a dense model", lower=1.0, upper=30.0, log=True, grid=(1.2, 2.0, 4.0)
    ),
    Parameter(
        name="Em", meaning="effective experts of endlessly many", lower=31.0, upper=1e8, log=True, grid=(100, 300, 1e3)
    ),
)


def log_effective_experts(p: Symbols, x: Symbols) -> Jet:
    """Ln of Ê, Es at E = 1 and Em at infinity: 1/Ê = 1/(E-1+1/(1/Es-1/Em)) + 1/Em (Clark et al. 2022, equation 6)."""
    experts_added = x["E"] - 1.0
    start = 1.0 / ((-p["ln Es"]).exp() - (-p["ln Em"]).exp())
    return -log_sum(-(experts_added + start).log(), -p["ln Em"])


def _signed(name: str, meaning: str) -> Parameter:
    return Parameter(name=name, meaning=meaning, lower=-20.0, upper=20.0)


def _routed(p: Symbols, x: Symbols) -> Jet:
    log_N, log_E = x["ln N"] * (1.0 / _LN10), log_effective_experts(p, x) * (1.0 / _LN10)
    return _LN10 * (p["a"] * log_N + p["b"] * log_E + p["c"] * (log_N * log_E) + p["d"])


ROUTED = Law(
    name="routed",
    formula="lg L = a lg N + b lg Ê + c lg N lg Ê + d, 1/Ê = 1/(E-1+1/(1/Es-1/Em)) + 1/Em",
    source="Clark et al. 2022, arXiv 2202.01169, equations 5 and 6; lg is to base 10",
    columns=(Column(name="N", meaning="parameters of the dense model that is routed"), EXPERTS),
    parameters=(
        _signed("a", "slope in lg N"),
        _signed("b", "slope in lg Ê"),
        _signed("c", "how the gain of experts fades with N"),
        _signed("d", "lg of the loss at N = 1 and Ê = 1"),
        *_SATURATION,
    ),
    form=_routed,
    linear=("a", "b", "c", "d"),
    linear_in="log",
)


def _joint_moe(p: Symbols, x: Symbols) -> Jet:
    log_E = log_effective_experts(p, x)
    return log_sum(
        p["ln a"] + p["delta"] * log_E + (p["alpha"] + p["gamma"] * log_E) * x["ln N"],
        p["ln b"] + p["omega"] * log_E + (p["beta"] + p["zeta"] * log_E) * x["ln D"],
        p["ln c"],
    )


JOINT_MOE = Law(
    name="joint_moe",
    formula="L = a Ê^delta N^(alpha + gamma ln Ê) + b Ê^omega D^(beta + zeta ln Ê) + c, Ê as in routed",
    source="Ludziejewski et al. 2025, arXiv 2502.05172, equation 5",
    columns=(ACTIVE, TOKENS, EXPERTS),
    parameters=(
        amplitude("a", "of the loss that more active parameters remove"),
        exponent("alpha", "exponent of N at Ê = 1", (-0.4, -0.25, -0.12), lower=-5.0, upper=0.0),
        exponent("delta", "exponent of Ê in the first term", (-0.3, 0.0), lower=-5.0),
        exponent("gamma", "change of N's exponent with ln Ê", (-0.01, 0.01), lower=-1.0, upper=1.0),
        amplitude("b", "of the loss that more tokens remove"),
        exponent("beta", "exponent of D at Ê = 1", (-0.4, -0.25, -0.12), lower=-5.0, upper=0.0),
        exponent("omega", "exponent of Ê in the second term", (0.0, 0.4), lower=-5.0),
        exponent("zeta", "change of D's exponent with ln Ê", (-0.02, 0.0), lower=-1.0, upper=1.0),
        *_SATURATION,
        offset("c"),
    ),
    form=_joint_moe,
    linear=("a", "b", "c"),
)

FINE_GRAINED_MOE = Law(
    name="fine_grained_moe",
    formula="L = c + (g/G^gamma + a)/N^alpha + b/D^beta",
    source="Krajewski et al. 2024, arXiv 2402.07871, equation 9",
    columns=(PARAMS, TOKENS, GRANULARITY),
    parameters=(
        amplitude("a", "of the loss that parameters remove, at endless granularity"),
        exponent("alpha", "exponent of N", COARSE_EXPONENTS),
        amplitude("b", "of the loss that more tokens remove"),
        exponent("beta", "exponent of D", COARSE_EXPONENTS),
        amplitude("g", "of the loss that granularity removes"),
        exponent("gamma", "exponent of G", (0.2, 0.4, 0.6, 0.9, 1.3)),
        offset("c"),
    ),
    form=lambda p, x: log_sum(
        p["ln g"] - p["gamma"] * x["ln G"] - p["alpha"] * x["ln N"],
        p["ln a"] - p["alpha"] * x["ln N"],
        p["ln b"] - p["beta"] * x["ln D"],
        p["ln c"],
    ),
    linear=("a", "b", "g", "c"),
)


def _sparsity(p: Symbols, x: Symbols) -> Jet:
    log_used = (1.0 - x["S"]).log()
    return log_sum(
        p["ln a"] - p["alpha"] * x["ln N"],
        p["ln b"] - p["beta"] * x["ln D"],
        p["ln c"] - p["lambda"] * log_used,
        p["ln d"] - p["delta"] * log_used - p["gamma"] * x["ln N"],
        p["ln e"],
    )


SPARSE = Law(
    name="sparsity",
    formula="L = a/N^alpha + b/D^beta + c/(1-S)^lambda + d/((1-S)^delta N^gamma) + e",
    source="Abnar et al. 2025, arXiv 2501.12370, equation 4",
    columns=(Column(name="N", meaning="total parameters"), TOKENS, SPARSITY),
    parameters=(
        amplitude("a", "of the loss that parameters remove"),
        exponent("alpha", "exponent of N", (0.25, 0.4, 0.6, 0.9)),
        amplitude("b", "of the loss that tokens remove"),
        exponent("beta", "exponent of D", (0.15, 0.25, 0.4, 0.6)),
        amplitude("c", "of the loss that sparsity moves"),
        exponent("lambda", "exponent of 1 - S", (-0.4, -0.15, 0.15), lower=-5.0),
        amplitude("d", "of the loss that sparsity and size move together"),
        exponent("delta", "exponent of 1 - S beside N", (-0.15, 0.15, 0.4), lower=-5.0),
        exponent("gamma", "exponent of N beside 1 - S", (0.08, 0.16, 0.3)),
        offset("e"),
    ),
    form=_sparsity,
    linear=("a", "b", "c", "d", "e"),
)

_BASE = (
    amplitude("a", "of the loss that more active parameters remove"),
    exponent("alpha", "exponent of N", COARSE_EXPONENTS),
    amplitude("b", "of the loss that more tokens remove"),
    exponent("beta", "exponent of D", COARSE_EXPONENTS),
    offset("c"),
)
_FIRST = Parameter(
    name="E0", meaning="experts beyond the first at which they begin to help", lower=1e-3, upper=1e6, log=True,
    grid=(0.1, 0.5, 1.5, 5.0, 15.0),
)  # fmt: skip


def _experts_effective(p: Symbols, x: Symbols) -> Jet:
    there, log_more = presence(x, "E", less=1.0)
    worth = (there * (p["ln m"] + p["gamma"] * log_more).exp()).log1p()
    return log_sum(p["ln a"] - p["alpha"] * (x["ln N"] + worth), p["ln b"] - p["beta"] * x["ln D"], p["ln c"])


EXPERTS_EFFECTIVE = Law(
    name="experts_effective",
    formula="L = c + a/N_eff^alpha + b/D^beta, N_eff = N (1 + m (E-1)^gamma)",
    source="ours, as memory_effective: experts act as more active parameters",
    columns=(ACTIVE, TOKENS, EXPERTS),
    parameters=(
        *_BASE,
        Parameter(
            name="m", meaning="worth of a second expert, in parameters of the model", lower=1e-6, upper=1e3, log=True,
            grid=(0.05, 0.2, 0.5, 1.0, 2.0),
        ),
        exponent("gamma", "how the worth grows with the experts; below 1 it fades", (0.15, 0.4, 0.8), upper=3.0),
    ),
    form=_experts_effective,
    linear=("a", "b", "c"),
)  # fmt: skip


def _experts_additive(p: Symbols, x: Symbols) -> Jet:
    log_fill = log_growth(p, *presence(x, "E", less=1.0), "E0")
    return log_sum(
        p["ln a"] - p["alpha"] * x["ln N"],
        p["ln b"] - p["beta"] * x["ln D"],
        p["ln M"] - p["gamma"] * log_fill,
        p["ln c"],
    )


EXPERTS_ADDITIVE = Law(
    name="experts_additive",
    formula="L = c + a/N^alpha + b/D^beta + M/(1 + (E-1)/E0)^gamma",
    source="ours, as memory_additive: experts remove a loss of their own, M in all",
    columns=(ACTIVE, TOKENS, EXPERTS),
    parameters=(
        *_BASE,
        amplitude("M", "loss that endlessly many experts remove"),
        _FIRST,
        exponent("gamma", "exponent of the number of experts", (0.1, 0.3, 0.8)),
    ),
    form=_experts_additive,
    linear=("a", "b", "M", "c"),
)


def _experts_log_linear(p: Symbols, x: Symbols) -> Jet:
    dense = log_sum(p["ln a"] - p["alpha"] * x["ln N"], p["ln b"] - p["beta"] * x["ln D"], p["ln c"]).exp()
    return dense - p["G"] * log_growth(p, *presence(x, "E", less=1.0), "E0")


EXPERTS_LOG_LINEAR = Law(
    name="experts_log_linear",
    formula="L = c + a/N^alpha + b/D^beta - G ln(1 + (E-1)/E0)",
    source="ours, as memory_log_linear: the loss falls straight with the logarithm of the number of experts",
    columns=(ACTIVE, TOKENS, EXPERTS),
    parameters=(*_BASE, amplitude("G", "loss that e times as many experts remove"), _FIRST),
    form=_experts_log_linear,
    gives="value",
    linear=("a", "b", "c", "G"),
)
