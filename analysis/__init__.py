"""Scaling laws of any table of runs: read, fit, compare, predict, with intervals.

Reads tables only; imports neither torch nor memscale. `python -m analysis` is the same from a terminal, and
`analysis.report.build` writes a sweep's whole report.
"""

from analysis.allocation.design_from_table import design
from analysis.allocation.from_table import isoflop
from analysis.downstream.from_table import downstream
from analysis.figures.draw import draw
from analysis.fitting import compare, fit, predict
from analysis.gains import gains
from analysis.report import report
from analysis.tables import observe, read

__all__ = ["compare", "design", "downstream", "draw", "fit", "gains", "isoflop", "observe", "predict", "read", "report"]
