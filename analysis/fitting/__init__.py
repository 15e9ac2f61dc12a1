"""Fitting laws: `fit_law` to the optimum, `bootstrap`, `profile` and `covariance` for how sure, `predict` for runs."""

from analysis.fitting.fit_law import fit_law
from analysis.inference.bootstrap import bootstrap
from analysis.inference.coefficients import Coefficient
from analysis.inference.prediction import Predicted, RunNoise, predict, run_noise
from analysis.inference.profile import Profile, profile
from analysis.inference.result import Fit, FitWarning, LocalOptimum, Replicates, Starts
from analysis.inference.sandwich import covariance
from analysis.solver.objective import OBJECTIVES, Objective, objective_named

__all__ = [
    "OBJECTIVES",
    "Coefficient",
    "Fit",
    "FitWarning",
    "LocalOptimum",
    "Objective",
    "Predicted",
    "Profile",
    "Replicates",
    "RunNoise",
    "Starts",
    "bootstrap",
    "covariance",
    "fit_law",
    "objective_named",
    "predict",
    "profile",
    "run_noise",
]
