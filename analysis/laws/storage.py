"""Laws of the bits of knowledge that a model stores, as the share of the bits that its training data offer.

What is stored rises with the model and then stays at what is offered, so a law of a loss does not fit it. Two limits
are known: a model stores no more than the data offer, and where they offer far more than it can hold, it stores its
capacity (Allen-Zhu and Li 2024, "Physics of Language Models 3.3": a number of bits a parameter, which depends on the
exposures alone). The link is the smooth minimum of the two,

    stored = (offered^-k + capacity^-k)^(-1/k),    share = stored/offered = (1 + (offered/capacity)^k)^(-1/k),

which has both limits, and a k that says how sharply one gives way to the other: 1 for a hyperbola, endless for a
corner. The share is what is fitted, by least squares: it is bounded, its noise is of about one size where that of ln of
the bits grows without limit towards 0, and a run that stores less than nothing (its answers are worse than chance)
stays a number.

Capacity follows the exposures, as tokens per bit offered D/B, by a power, and the model's size by one of the forms of
memory tables and experts in `analysis.laws.memory` and `analysis.laws.moe`: as more parameters (effective), as bits of
their own (additive), or by the logarithm of their number (log-linear). `stored_dense` ignores both.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from analysis.laws.autodiff import Jet, log_sum
from analysis.laws.law import NOTHING, Column, FloatArray, Law, Parameter, Symbols
from analysis.laws.terms import (
    ACTIVE,
    EXPERTS,
    OFFERED,
    SLOTS,
    TABLE,
    TOKENS,
    amplitude,
    exponent,
    log_growth,
    presence,
)

Capacity = Callable[[Symbols, Symbols], Jet]

LEAST_SHARE = 0.02
"""Starts take a share nearer to 0 or 1 than this for this: beyond it, the link has no inverse that noise allows."""
_SHARPNESS = (0.7, 1.5, 3.0, 8.0)

_COMMON = (
    amplitude("c", "bits that a parameter stores at one token per bit offered, where alpha is 1"),
    exponent("alpha", "exponent of N; 1 where each parameter stores as much as any other", (1.0,), upper=3.0),
    exponent("beta", "exponent of the tokens per bit offered", (0.3,)),
    Parameter(name="k", meaning="how sharply capacity limits what is stored", lower=0.2, upper=100.0, log=True,
              grid=_SHARPNESS),
)  # fmt: skip


def _law(
    name: str, capacity: str, source: str, more: tuple[Column, ...], own: tuple[Parameter, ...], log_size: Capacity
) -> Law:
    """A law whose capacity is X^beta x `log_size`, a function of N and what the model has beside it."""

    def form(p: Symbols, x: Symbols) -> Jet:
        log_capacity = p["beta"] * (x["ln D"] - x["ln B"]) + log_size(p, x)
        return -((p["k"] * (x["ln B"] - log_capacity)).softplus() / p["k"])

    law = Law(
        name=name,
        formula=f"share = (1 + (B/capacity)^k)^(-1/k), capacity = (D/B)^beta {capacity}",
        source=source,
        columns=(ACTIVE, TOKENS, OFFERED, *more),
        parameters=(*_COMMON, *own),
        form=form,
    )

    def starts(columns: Mapping[str, FloatArray], share_N: FloatArray) -> FloatArray:
        return _starts(law, columns, share_N)

    return replace(law, starts=starts)


def _starts(law: Law, columns: Mapping[str, FloatArray], share_N: FloatArray) -> FloatArray:
    """For each k and each value of the law's own parameters: c, alpha and beta by least squares of ln of the capacity.

    The link inverted gives ln capacity = ln B - ln(share^-k - 1)/k, which is linear in ln c, beta and (but for the
    additive form, where it is near) alpha.
    """
    own = law.parameters[len(_COMMON) :]
    inside_N = np.clip(share_N, LEAST_SHARE, 1.0 - LEAST_SHARE)
    weight_N = np.where((share_N > LEAST_SHARE) & (share_N < 1.0 - LEAST_SHARE), 1.0, 0.1)
    log_N, log_B = np.log(columns["N"]), np.log(columns["B"])
    design_N3 = np.stack([np.ones_like(log_N), log_N, np.log(columns["D"]) - log_B], axis=1)
    starts = []
    for k, *values in itertools.product(_SHARPNESS, *(one.grid for one in own)):
        given = {one.name: value for one, value in zip(own, values, strict=True)}
        log_capacity_N = log_B - np.log(inside_N**-k - 1.0) / k
        at_one = law.predict({"c": 1.0, "alpha": 1.0, "beta": 0.0, "k": k, **given}, columns)
        # How much more capacity these give than N alone, by the law itself.
        more_N = log_B - np.log(np.clip(at_one, 1e-12, 1.0 - 1e-12) ** -k - 1.0) / k - log_N
        found_3 = np.linalg.lstsq(
            design_N3 * weight_N[:, None], (log_capacity_N - more_N) * weight_N, rcond=1e-9
        )[0]  # fmt: skip
        theta = {"c": float(np.exp(np.clip(found_3[0], -40, 40))), "alpha": found_3[1], "beta": found_3[2], "k": k}
        starts.append(law.theta({**theta, **given}))
    return np.clip(np.array(starts), law.lower, law.upper)


def _dense(p: Symbols, x: Symbols) -> Jet:
    return p["ln c"] + p["alpha"] * x["ln N"]


def _effective(column: str, less: float, relative: bool) -> Capacity:
    def log_size(p: Symbols, x: Symbols) -> Jet:
        there, log_more = presence(x, column, less=less)
        log_ratio = log_more - x["ln N"] if relative else log_more
        worth = (there * (p["ln m"] + p["gamma"] * log_ratio).exp()).log1p()
        return p["ln c"] + p["alpha"] * (x["ln N"] + worth)

    return log_size


def _additive(column: str, less: float, relative: bool) -> Capacity:
    """A term beside N's: m T^gamma for a table, m (N (E-1))^gamma for experts."""

    def log_size(p: Symbols, x: Symbols) -> Jet:
        there, log_more = presence(x, column, less=less)
        log_held = log_more if relative else log_more + x["ln N"]
        absent = NOTHING * (1.0 - there)
        return log_sum(_dense(p, x), there * (p["ln m"] + p["gamma"] * log_held) + absent)

    return log_size


def _log_linear(column: str, less: float, start: str) -> Capacity:
    def log_size(p: Symbols, x: Symbols) -> Jet:
        return _dense(p, x) + (p["G"] * log_growth(p, *presence(x, column, less=less), start)).log1p()

    return log_size


def _worth(meaning: str) -> Parameter:
    return Parameter(name="m", meaning=meaning, lower=1e-6, upper=1e6, log=True, grid=(0.03, 0.3, 1.0, 3.0))


_GAMMA = exponent("gamma", "how the capacity grows with them; below 1 it fades", (0.3, 0.6, 1.0), upper=3.0)
_GAIN = Parameter(
    name="G", meaning="capacity that e times as many add, in parts of the dense model's", lower=1e-6, upper=1e4,
    log=True, grid=(0.1, 0.5, 2.0),
)  # fmt: skip


def _start(name: str, meaning: str, grid: tuple[float, ...]) -> Parameter:
    return Parameter(name=name, meaning=meaning, lower=1e-3, upper=1e12, log=True, grid=grid)


_LINK = "ours: a smooth minimum of the bits offered and a capacity"

STORED_DENSE = _law("stored_dense", "c N^alpha", f"{_LINK} of the active parameters", (), (), _dense)

STORAGE_LAWS = (
    STORED_DENSE,
    _law(
        "stored_memory_effective", "c N_eff^alpha, N_eff = N (1 + m (T/N)^gamma)", f"{_LINK}, as memory_effective",
        (TABLE,), (_worth("worth of a table as large as the model, in parameters of it"), _GAMMA),
        _effective("T", 0.0, relative=True),
    ),
    _law(
        "stored_memory_additive", "(c N^alpha + m T^gamma)", f"{_LINK}: a table holds bits of its own",
        (TABLE,), (_worth("bits that the first parameter of a table stores"), _GAMMA),
        _additive("T", 0.0, relative=True),
    ),
    _law(
        "stored_memory_log_linear", "c N^alpha (1 + G ln(1 + K/K0))", f"{_LINK} that grows with the logarithm of slots",
        (SLOTS,), (_GAIN, _start("K0", "slots at which a table begins to help", (10.0, 300.0, 1e4, 3e5))),
        _log_linear("K", 0.0, "K0"),
    ),
    _law(
        "stored_experts_effective", "c N_eff^alpha, N_eff = N (1 + m (E-1)^gamma)", f"{_LINK}, as experts_effective",
        (EXPERTS,), (_worth("worth of a second expert, in parameters of the model"), _GAMMA),
        _effective("E", 1.0, relative=False),
    ),
    _law(
        "stored_experts_additive", "(c N^alpha + m (N (E-1))^gamma)", f"{_LINK}: experts hold bits of their own",
        (EXPERTS,), (_worth("bits that a parameter of further experts stores, where gamma is 1"), _GAMMA),
        _additive("E", 1.0, relative=False),
    ),
    _law(
        "stored_experts_log_linear", "c N^alpha (1 + G ln(1 + (E-1)/E0))",
        f"{_LINK} that grows with the logarithm of experts",
        (EXPERTS,), (_GAIN, _start("E0", "experts beyond the first at which they begin to help", (0.3, 2.0, 10.0))),
        _log_linear("E", 1.0, "E0"),
    ),
)  # fmt: skip
"""Their value is the share stored, from 0 to 1."""
