"""Scaling laws as declarations: `LAWS` by name, `law_named` for those made on request, `Law` to declare another."""

from analysis.laws.constraints import bounded, held, tied
from analysis.laws.dense import sum_of_powers
from analysis.laws.law import Column, Derived, Law, Parameter, Symbols
from analysis.laws.registry import LAWS, law_named

__all__ = [
    "LAWS",
    "Column",
    "Derived",
    "Law",
    "Parameter",
    "Symbols",
    "bounded",
    "held",
    "law_named",
    "sum_of_powers",
    "tied",
]
