"""The law of looped models: what one more pass through shared layers is worth, in parameters.

A parameter that r recurrences use counts as r^phi parameters. With phi 0 a recurrence adds nothing to what the layers
know, with phi 1 it is worth layers of its own. The counts are of non-embedding parameters.
"""

from __future__ import annotations

from analysis.laws.autodiff import Jet, log_sum
from analysis.laws.law import Column, Law, Parameter, Symbols
from analysis.laws.terms import COARSE_EXPONENTS, TOKENS, amplitude, exponent, offset, presence

_ONCE = Column(name="N_once", meaning="parameters that a token uses once")
_RECURRENT = Column(name="N_rec", meaning="parameters that every recurrence uses, 0 for a dense model", closed=True)
_RECURRENCES = Column(name="r", meaning="recurrences, 1 for a dense model", lower=1.0, closed=True)


def _log_effective_params(p: Symbols, x: Symbols) -> Jet:
    """Ln(N_once + r^phi N_rec), exactly ln N_once where nothing recurs."""
    there, log_recurrent = presence(x, "N_rec")
    share = (log_recurrent + p["phi"] * x["ln r"] - x["ln N_once"]).exp()
    worth: Jet = x["ln N_once"] + (there * share).log1p()
    return worth


def _looped(p: Symbols, x: Symbols) -> Jet:
    return log_sum(p["ln A"] - p["alpha"] * _log_effective_params(p, x), p["ln B"] - p["beta"] * x["ln D"], p["ln E"])


LOOPED = Law(
    name="looped",
    formula="L = E + A (N_once + r^phi N_rec)^-alpha + B/D^beta",
    source="arXiv 2604.21106, over 116 looped and dense runs",
    columns=(_ONCE, _RECURRENT, TOKENS, _RECURRENCES),
    parameters=(
        amplitude("A", "of the loss that more parameters remove"),
        amplitude("B", "of the loss that more tokens remove"),
        offset(),
        exponent("alpha", "how fast parameters remove loss", COARSE_EXPONENTS),
        exponent("beta", "how fast tokens remove loss", COARSE_EXPONENTS),
        Parameter(
            name="phi", meaning="worth of a recurrence: 0 nothing, 1 as much as layers of its own", lower=-3.0,
            upper=3.0, grid=(-0.3, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5),
        ),
    ),
    form=_looped,
    linear=("A", "B", "E"),
)  # fmt: skip
