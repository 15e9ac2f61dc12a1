"""Fitting laws: `fit` for tables and `fit_law` for arrays, `predict` for other runs, and their pieces."""

from analysis.fitting.compare import Comparison, compare
from analysis.fitting.fit import fit
from analysis.fitting.fit_law import fit_law
from analysis.fitting.predict import Predictions, predict
from analysis.inference.bootstrap import bootstrap
from analysis.inference.coefficients import Coefficient
from analysis.inference.prediction import PredictedLoss, predicted_loss
from analysis.inference.profile import Profile, profile
from analysis.inference.residual_bootstrap import default_replicates, residual_bootstrap
from analysis.inference.result import Fit, FitWarning, LocalOptimum, Replicates, Starts
from analysis.inference.run_noise import RunNoise, run_noise
from analysis.inference.sandwich import covariance
from analysis.solver.objective import OBJECTIVES, Objective, objective_named

__all__ = [
    "OBJECTIVES",
    "Coefficient",
    "Comparison",
    "Fit",
    "FitWarning",
    "LocalOptimum",
    "Objective",
    "PredictedLoss",
    "Predictions",
    "Profile",
    "Replicates",
    "RunNoise",
    "Starts",
    "bootstrap",
    "compare",
    "covariance",
    "default_replicates",
    "fit",
    "fit_law",
    "objective_named",
    "predict",
    "predicted_loss",
    "profile",
    "residual_bootstrap",
    "run_noise",
]
