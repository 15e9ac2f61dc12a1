"""Refits to data in which the residuals of whole groups of runs change sign and size together (wild cluster bootstrap).

For runs of a planned grid that share noise in groups (one order of data and one set of initial weights at a budget, for
instance). Drawing groups whole (`bootstrap`) would draw grids without a base or a budget; this keeps every run in its
place, and the correlation inside groups whatever it is (Cameron, Gelbach and Miller 2008; Webb's six weights, so that
a dozen groups have enough different ones: Webb 2023, Canadian Journal of Economics 56).

1. A fit follows its data, and most where a group's runs have weight: the residuals r_g of a group are those of a fit
   without it, (I - H_gg)^-1 r_g with H = J (J'J)^-1 J' of the Jacobian J, times sqrt((G-1)/G) (the estimator CR3: Bell
   and McCaffrey 2002; MacKinnon, Nielsen and Webb 2023 use such residuals in this bootstrap).
2. The variance is estimated from G groups: a refit's residuals are multiplied by sqrt(d / chi-squared(d)), d = G - 1,
   so that intervals are Student's t where the law is linear.

Shapes: B replicates, N runs, G groups.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.inference.bootstrap import refit
from analysis.inference.result import Fit, Replicates

FloatArray = npt.NDArray[np.float64]

WEBB = np.sqrt([0.5, 1.0, 1.5])
"""Sizes of the six weights; each has either sign. Their mean square is 1."""


def wild_bootstrap(
    fit: Fit, groups: npt.NDArray[np.integer], *, name: str = "given groups", num: int = 1000, seed: int = 0
) -> Replicates:
    """Refit to `num` tables of the same runs: the law's prediction plus each residual times its group's weight.

    Args:
        fit: The fit at its optimum, with more runs than free parameters.
        groups: The group of each run [N].
        name: What the groups are, for people.
        num: Number of refits.
        seed: Of the weights.

    Raises:
        FitError: There are fewer than two groups, or no more runs than free parameters.
    """
    group_N = np.unique(groups, return_inverse=True)[1].reshape(-1)
    num_groups, spare = int(group_N.max(initial=0)) + 1, fit.num_points - fit.num_free
    if num_groups < 2 or spare < 1:
        raise FitError(
            f"intervals by groups need at least 2 groups ({name}) and more runs than coefficients; the table has"
            f" {num_groups} and {fit.num_points} runs for {fit.num_free} coefficients. Add seeds or budgets"
        )
    random = np.random.default_rng(seed)
    weight_BG = random.choice(np.concatenate([-WEBB, WEBB]), size=(num, num_groups))
    degrees = num_groups - 1
    weight_BG = weight_BG * np.sqrt(degrees / random.chisquare(degrees, size=(num, 1)))
    prediction_N = fit.problem.model.predict(fit.theta[None, :])[0]
    target_BN = prediction_N - _without_own_group(fit, group_N) * weight_BG[:, group_N]
    theta_BP, value_B, converged_B = refit(fit, np.ones((1, fit.num_points)), target_BN)
    return Replicates(
        theta=theta_BP,
        objective=value_B,
        share_converged=float(converged_B.mean()),
        cluster=name,
        seed=seed,
        method="clusters",
    )


def _without_own_group(fit: Fit, group_N: npt.NDArray[np.intp]) -> FloatArray:
    """Residuals [N] as those of a fit without each run's group (step 1 of the module)."""
    free_P = np.array([name not in fit.fixed and name not in fit.at_bound for name in fit.law.names])
    jacobian_NP = fit.problem.model.at(fit.theta[None, :]).gradients()[0][:, free_P]
    # Columns of length 1 keep the inverse exact; directions that the table does not determine count for nothing.
    length_P = np.sqrt((jacobian_NP**2).sum(axis=0))
    jacobian_NP = jacobian_NP / np.where(length_P > 0, length_P, 1.0)
    inverse_PP = np.linalg.pinv(jacobian_NP.T @ jacobian_NP, rcond=1e-10, hermitian=True)
    residual_N = fit.residuals.copy()
    num_groups = int(group_N.max()) + 1
    for group in range(num_groups):
        at = np.flatnonzero(group_N == group)
        left = np.eye(len(at)) - jacobian_NP[at] @ inverse_PP @ jacobian_NP[at].T
        residual_N[at] = np.linalg.lstsq(left, residual_N[at], rcond=1e-6)[0]
    return np.asarray(residual_N * np.sqrt((num_groups - 1) / num_groups))
