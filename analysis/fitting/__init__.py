"""Fitting laws: `fit` to the optimum, `bootstrap`, `profile` and `covariance` for how sure, `noise` for predictions."""

from analysis.fitting.bootstrap import bootstrap
from analysis.fitting.fit import fit
from analysis.fitting.noise import Predicted, RunNoise, predict, run_noise
from analysis.fitting.objective import OBJECTIVES, Objective, objective_named
from analysis.fitting.profile import Profile, profile
from analysis.fitting.result import Basin, Caution, Coefficient, Draws, Fit, Starts
from analysis.fitting.sandwich import covariance

__all__ = [
    "OBJECTIVES",
    "Basin",
    "Caution",
    "Coefficient",
    "Draws",
    "Fit",
    "Objective",
    "Predicted",
    "Profile",
    "RunNoise",
    "Starts",
    "bootstrap",
    "covariance",
    "fit",
    "objective_named",
    "predict",
    "profile",
    "run_noise",
]
