"""Laws of data seen more than once, and of memory tables: capacity beside the active parameters.

Of the memory laws the first two are ours, since no fitted law of product-key memory is public, and the third is what
papers on n-gram tables report. They are compared by held-out error, since there is no reason beforehand why a table
should act as more parameters (`memory_effective`), remove a loss of its own by a power of its size (`memory_additive`)
or by its logarithm (`memory_log_linear`). All are the Chinchilla law where a model has no table (the additive one with
M in its irreducible loss).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from scipy.optimize import nnls

from analysis.laws.autodiff import Jet, log_sum
from analysis.laws.law import FloatArray, Law, Parameter, Symbols
from analysis.laws.terms import (
    ACTIVE,
    COARSE_EXPONENTS,
    PARAMS,
    SLOTS,
    TABLE,
    TOKENS,
    UNIQUE_TOKENS,
    amplitude,
    exponent,
    log_growth,
    offset,
    presence,
)

_EXPONENTS = (
    exponent("alpha", "exponent of N", COARSE_EXPONENTS),
    exponent("beta", "exponent of D", COARSE_EXPONENTS),
)


def _worth(log_unique: Jet, log_used: Jet, rate: Jet) -> Jet:
    """Ln of U + U R* (1 - exp(-R/R*)), R = used/U - 1 repetitions: what repeated use is worth in fresh."""
    repetitions = (log_used - log_unique).expm1()
    return log_unique + (rate * -((-repetitions / rate).expm1())).log1p()


def _rate(name: str, meaning: str) -> Parameter:
    return Parameter(
        name=name, meaning=meaning, lower=0.01, upper=1e4, log=True, grid=(0.5, 2.0, 5.0, 15.0, 50.0, 200.0)
    )


_REPEATED = _rate("R_D", "repetitions after which more of them are worth little; its upper bound stands for fresh")

DATA_CONSTRAINED = Law(
    name="data_constrained",
    formula="L = E + A/N^alpha + B/D'^beta, D' = U + U R_D (1 - exp(-(D/U - 1)/R_D))",
    source="Muennighoff et al. 2023, arXiv 2305.16264, equation 5, tokens only",
    columns=(PARAMS, TOKENS, UNIQUE_TOKENS),
    parameters=(
        amplitude("A", "of the loss that more parameters remove"),
        amplitude("B", "of the loss that more tokens remove"),
        offset(),
        *_EXPONENTS,
        _REPEATED,
    ),
    form=lambda p, x: log_sum(
        p["ln A"] - p["alpha"] * x["ln N"],
        p["ln B"] - p["beta"] * _worth(x["ln U"], x["ln D"], p["R_D"]),
        p["ln E"],
    ),
    linear=("A", "B", "E"),
)


def _unique_params(p: Symbols, x: Symbols) -> tuple[Jet, Jet]:
    """Ln of U_N, the parameters that the unique tokens can feed, and how far ln N lies above it (0 where it does not).

    U_N is the smaller of N and the N that the law without repetition pairs with U tokens:
    1. N* = G (C/6)^a and D* = (C/6)^b / G with G = (alpha A / (beta B))^(1/(alpha + beta)), a = beta/(alpha + beta),
       b = alpha/(alpha + beta) (Hoffmann et al. 2022, equation 4);
    2. D* = U gives (C/6) = (G U)^(1/b), so N* = G (G U)^(a/b) = G^((alpha + beta)/alpha) U^(beta/alpha);
    3. ln N* = (ln alpha + ln A - ln beta - ln B)/alpha + (beta/alpha) ln U.
    """
    alpha, beta = p["alpha"], p["beta"]
    log_best = (alpha.log() + p["ln A"] - beta.log() - p["ln B"] + beta * x["ln U"]) / alpha
    excess = x["ln N"] - log_best
    above = (excess.value > 0).astype(np.float64)
    excess = excess.through(np.maximum(excess.value, 0.0), above, np.zeros_like(above))
    return x["ln N"] - excess, excess


def _data_constrained_full(p: Symbols, x: Symbols) -> Jet:
    log_unique, excess = _unique_params(p, x)
    rate = p["R_N"]
    log_params = log_unique + (rate * -((-excess.expm1() / rate).expm1())).log1p()
    log_tokens = _worth(x["ln U"], x["ln D"], p["R_D"])
    return log_sum(p["ln A"] - p["alpha"] * log_params, p["ln B"] - p["beta"] * log_tokens, p["ln E"])


def _data_constrained_starts(columns: Mapping[str, FloatArray], loss_N: FloatArray) -> FloatArray:
    """For each alpha, beta and R_D: A, B and E by least squares at or above zero with N for N', and two R_N."""
    unique_N, ones_N = columns["U"], np.ones_like(loss_N)
    repetitions_N = np.maximum(columns["D"] / unique_N - 1.0, 0.0)
    starts = []
    for rate, alpha, beta in itertools.product((0.5, 5.0, 15.0, 100.0), COARSE_EXPONENTS, COARSE_EXPONENTS):
        tokens_N = unique_N * (1.0 - rate * np.expm1(-repetitions_N / rate))
        terms_N3 = np.stack([columns["N"] ** -alpha, tokens_N**-beta, ones_N], axis=1)
        size_3 = terms_N3.max(axis=0)
        shares_3 = np.maximum(nnls(terms_N3 / size_3, loss_N)[0], 1e-4 * loss_N.mean())
        starts += [[*np.log(shares_3 / size_3), alpha, beta, np.log(rate), np.log(excess)] for excess in (5.0, 100.0)]
    return np.array(starts)


DATA_CONSTRAINED_FULL = Law(
    name="data_constrained_full",
    formula="L = E + A/N'^alpha + B/D'^beta, D' = U + U R_D (1 - exp(-(D/U - 1)/R_D)),"
    " N' = U_N + U_N R_N (1 - exp(-(N/U_N - 1)/R_N)), U_N = min(N, best N for U tokens)",
    source="Muennighoff et al. 2023, arXiv 2305.16264, equations 5 and 6; they tie alpha to beta",
    columns=(PARAMS, TOKENS, UNIQUE_TOKENS),
    parameters=(
        amplitude("A", "of the loss that more parameters remove"),
        amplitude("B", "of the loss that more tokens remove"),
        offset(),
        exponent("alpha", "exponent of N", COARSE_EXPONENTS, lower=1e-3),
        exponent("beta", "exponent of D", COARSE_EXPONENTS, lower=1e-3),
        _REPEATED,
        _rate("R_N", "excess of parameters after which more are worth little; its upper bound stands for all"),
    ),
    form=_data_constrained_full,
    starts=_data_constrained_starts,
)


def _memory_effective(p: Symbols, x: Symbols) -> Jet:
    there, log_T = presence(x, "T")
    worth = (there * (p["ln m"] + p["gamma"] * (log_T - x["ln N"])).exp()).log1p()
    return log_sum(p["ln A"] - p["alpha"] * (x["ln N"] + worth), p["ln B"] - p["beta"] * x["ln D"], p["ln E"])


MEMORY_EFFECTIVE = Law(
    name="memory_effective",
    formula="L = E + A/N_eff^alpha + B/D^beta, N_eff = N (1 + m (T/N)^gamma)",
    source="ours: a table of T parameters acts as more active parameters",
    columns=(ACTIVE, TOKENS, TABLE),
    parameters=(
        amplitude("A", "of the loss that more effective parameters remove"),
        amplitude("B", "of the loss that more tokens remove"),
        offset(),
        *_EXPONENTS,
        Parameter(
            name="m", meaning="worth of a table as large as N, in multiples of N; its lower bound stands for none",
            lower=1e-6, upper=1e4, log=True, grid=(0.03, 0.2, 1.0, 4.0),
        ),
        exponent("gamma", "how the worth grows with T/N; below 1 it fades", (0.15, 0.4, 0.8), upper=3.0),
    ),
    form=_memory_effective,
    linear=("A", "B", "E"),
)  # fmt: skip


def _memory_additive(p: Symbols, x: Symbols) -> Jet:
    log_fill = log_growth(p, *presence(x, "T"), "T0")
    return log_sum(
        p["ln A"] - p["alpha"] * x["ln N"],
        p["ln B"] - p["beta"] * x["ln D"],
        p["ln M"] - p["gamma"] * log_fill,
        p["ln E"],
    )


MEMORY_ADDITIVE = Law(
    name="memory_additive",
    formula="L = E + A/N^alpha + B/D^beta + M/(1 + T/T0)^gamma",
    source="ours: a table of T parameters removes a loss of its own, M in all, by a power of its size",
    columns=(ACTIVE, TOKENS, TABLE),
    parameters=(
        amplitude("A", "of the loss that more active parameters remove"),
        amplitude("B", "of the loss that more tokens remove"),
        offset(),
        *_EXPONENTS,
        amplitude("M", "loss that an endless table removes"),
        Parameter(
            name="T0", meaning="table parameters at which it begins to help", lower=1e-3, upper=1e15, log=True,
            grid=(0.0, 0.3, 0.6, 0.9), relative_to="T",
        ),
        exponent("gamma", "exponent of the table's size", (0.1, 0.3, 0.8)),
    ),
    form=_memory_additive,
    linear=("A", "B", "M", "E"),
)  # fmt: skip


def _memory_log_linear(p: Symbols, x: Symbols) -> Jet:
    dense = log_sum(p["ln A"] - p["alpha"] * x["ln N"], p["ln B"] - p["beta"] * x["ln D"], p["ln E"]).exp()
    return dense - p["G"] * log_growth(p, *presence(x, "K"), "K0")


MEMORY_LOG_LINEAR = Law(
    name="memory_log_linear",
    formula="L = E + A/N^alpha + B/D^beta - G ln(1 + K/K0)",
    source="Engram (arXiv 2601.07372) and Over-Encoding (arXiv 2501.16975) report a loss that falls straight with the"
    " logarithm of an n-gram table's rows; the start K0 is ours",
    columns=(ACTIVE, TOKENS, SLOTS),
    parameters=(
        amplitude("A", "of the loss that more active parameters remove"),
        amplitude("B", "of the loss that more tokens remove"),
        offset(meaning="irreducible loss without a table; its lower bound stands for none"),
        *_EXPONENTS,
        amplitude("G", "loss that a table e times as large removes"),
        Parameter(
            name="K0", meaning="slots at which a table begins to help", lower=1e-3, upper=1e15, log=True,
            grid=(-0.5, 0.0, 0.3, 0.6, 0.9), relative_to="K",
        ),
    ),
    form=_memory_log_linear,
    gives="value",
    linear=("A", "B", "E", "G"),
)  # fmt: skip
