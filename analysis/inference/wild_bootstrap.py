"""Refits to data in which the residuals of whole groups of runs change sign and size together (wild cluster bootstrap).

For runs of a planned grid that share noise in groups (one order of data and one set of initial weights at a budget, for
instance). Drawing groups whole (`bootstrap`) would draw grids without a base or a budget; this keeps every run in its
place, and the correlation inside groups whatever it is (Cameron, Gelbach and Miller 2008; Webb's six weights, so that
a dozen groups have enough different ones: Webb 2023, Canadian Journal of Economics 56). Residuals are enlarged by
sqrt(G/(G-1) (n-1)/(n-p)), as in Cameron and Miller 2015, section III.A, since a fit follows its data.

Shapes: B replicates, N runs, G groups.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.inference.bootstrap import refit
from analysis.inference.result import Fit, Replicates

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
    enlarged = np.sqrt(num_groups / (num_groups - 1) * (fit.num_points - 1) / spare)
    prediction_N = fit.problem.model.predict(fit.theta[None, :])[0]
    target_BN = prediction_N - enlarged * fit.residuals * weight_BG[:, group_N]
    theta_BP, value_B, converged_B = refit(fit, np.ones((1, fit.num_points)), target_BN)
    return Replicates(
        theta=theta_BP,
        objective=value_B,
        share_converged=float(converged_B.mean()),
        cluster=name,
        seed=seed,
        method="clusters",
    )
