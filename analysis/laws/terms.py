"""The columns and the kinds of parameter that several laws share, so that one name means one thing in all of them.

Decides the bounds: an amplitude lies between 1e-20 and 1e60 (its logarithm is what moves), an irreducible loss may
shrink to 1e-6, which is as good as 0, and an exponent lies between 0 and 5; other bounds are in the law.
"""

from __future__ import annotations

import numpy as np

from analysis.laws.autodiff import Jet, column
from analysis.laws.law import Column, Parameter, Symbols

EXPONENTS = (0.03, 0.06, 0.1, 0.14, 0.18, 0.22, 0.26, 0.3, 0.34, 0.38, 0.42, 0.46, 0.5, 0.6, 0.7, 0.85, 1.0, 1.3)
COARSE_EXPONENTS = (0.05, 0.12, 0.2, 0.3, 0.42, 0.6, 0.9)

PARAMS = Column(name="N", meaning="parameters")
ACTIVE = Column(name="N", meaning="active parameters")
TOKENS = Column(name="D", meaning="training tokens")
COMPUTE = Column(name="C", meaning="training FLOPs")
EXPERTS = Column(name="E", meaning="number of experts, 1 for a dense model", lower=1.0, closed=True)
GRANULARITY = Column(name="G", meaning="granularity: FFN width over expert width")
SPARSITY = Column(name="S", meaning="share of the parameters that a token does not use", upper=1.0, closed=True)
TABLE = Column(name="T", meaning="parameters of memory tables, 0 for none", closed=True)
SLOTS = Column(name="K", meaning="slots of the memory table, 0 for none", closed=True)
OFFERED = Column(name="B", meaning="bits of knowledge that the training data offer")
UNIQUE_TOKENS = Column(name="U", meaning="unique tokens")
X = Column(name="x", meaning="what the curve runs over (compute, tokens, parameters, ...)")
LOSS_IN = Column(name="L", meaning="loss that the metric is predicted from", lower=-np.inf)


def amplitude(name: str, meaning: str) -> Parameter:
    """A factor of a term, above 0; the solver moves its logarithm."""
    return Parameter(name=name, meaning=meaning, lower=1e-20, upper=1e60, log=True)


def offset(name: str = "E", meaning: str = "irreducible loss; its lower bound stands for none") -> Parameter:
    """A loss that nothing removes, above 0; the solver moves its logarithm."""
    return Parameter(name=name, meaning=meaning, lower=1e-6, upper=1e6, log=True)


def exponent(
    name: str, meaning: str, grid: tuple[float, ...] = EXPONENTS, lower: float = 0.0, upper: float = 5.0
) -> Parameter:
    """An exponent, with the values that starts are made from."""
    return Parameter(name=name, meaning=meaning, lower=lower, upper=upper, grid=grid)


def presence(x: Symbols, name: str, *, less: float = 0.0) -> tuple[Jet, Jet]:
    """1 where a column less `less` is above 0, else 0; and ln of that difference (0 where it is not above 0).

    For what a model may lack: a table, or experts beyond the first (`less` 1). Terms in it then vanish exactly.
    """
    size_N = x[name].value[0] - less
    return column((size_N > 0).astype(np.float64)), column(np.log(np.where(size_N > 0, size_N, 1.0)))


def log_growth(p: Symbols, there: Jet, log_size: Jet, start: str) -> Jet:
    """Ln(1 + size/start): straight in ln of the size once it is far above `start`, and 0 where there is none."""
    return (there * (log_size - p[f"ln {start}"]).exp()).log1p()
