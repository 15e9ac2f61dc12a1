"""What one family of models gains over another: differences in loss, laws along one axis, multipliers of compute."""

from analysis.gains.gain import Gain, gain_between
from analysis.gains.of_table import AXES, Gains, gains, gains_of

__all__ = ["AXES", "Gain", "Gains", "gain_between", "gains", "gains_of"]
