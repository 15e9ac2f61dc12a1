"""The bootstrap: refits to resampled points or groups of points, thousands at once.

Decides that a resample is a set of counts used as weights, never a copy of the data (Efron 1979, by pairs); that where
points belong together (checkpoints of a run, seeds of a size) whole groups are drawn; and that every replicate is
refitted from the point estimate, and from each other optimum of the point estimate that is nearly as good, the better
of the refits being kept. Refuses a resampling of fewer than two groups.

Shapes: B replicates, N runs, G groups, P parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from analysis import formatting
from analysis.errors import FitError
from analysis.inference.profile import ratio
from analysis.inference.result import Fit, Replicates
from analysis.solver.newton import Problem, minimise

FloatArray = npt.NDArray[np.float64]

RIVAL = 20.0
"""Likelihood ratio up to which another optimum may be the best one of a resample."""
_BLOCK_BYTES = 64_000_000
"""Counts held at once."""


def bootstrap(
    fit: Fit,
    *,
    num: int = 4000,
    cluster: str | None = None,
    clusters: Sequence[object] | npt.NDArray[np.generic] | None = None,
    seed: int = 0,
) -> Replicates:
    """Refit to `num` resamples of the runs, or of groups of runs.

    Args:
        fit: The fit whose runs are resampled.
        num: Number of refits.
        cluster: Name of the groups; a column of the fit that gives them where `clusters` is not given.
        clusters: The group of each run. Without both, the fit's own groups; without those, each run is its own.
        seed: Of the resampling.

    Returns:
        The refits' parameters in the solver's form [B, P] and their objectives [B].

    Raises:
        FitError: There are fewer than two groups, or not one group for each run.
    """
    if not isinstance(num, int | np.integer) or num < 2:
        raise FitError(f"a bootstrap needs a number of refits, at least 2, such as 1000; given {num!r}")
    if clusters is None and cluster is None:
        clusters, cluster = fit.clusters, fit.cluster_name
    codes_N = group_codes(fit.num_points, fit.columns, cluster, clusters)
    codes_N = np.arange(fit.num_points) if codes_N is None else codes_N
    groups = int(codes_N.max()) + 1
    if groups < 2:
        raise FitError(f"a bootstrap resamples at least 2 groups; {cluster or 'the table'} has {groups}")
    random = np.random.default_rng(seed)
    thetas, values, converged = [], [], []
    size = max(1, _BLOCK_BYTES // (8 * fit.num_points))
    for begin in range(0, num, size):
        counts_BG = random.multinomial(groups, np.full(groups, 1.0 / groups), size=min(size, num - begin))
        counts_BN = counts_BG[:, codes_N].astype(np.float64)
        theta_BP, value_B, converged_B = refit(fit, counts_BN)
        thetas.append(theta_BP)
        values.append(value_B)
        converged.append(converged_B)
    return Replicates(
        theta=np.concatenate(thetas),
        objective=np.concatenate(values),
        share_converged=float(np.concatenate(converged).mean()),
        cluster=cluster if cluster is not None or clusters is None else fit.cluster_name or "given groups",
        seed=seed,
        method="runs" if clusters is None and cluster is None else "clusters",
    )


def refit(
    fit: Fit, counts_BN: FloatArray, target_BN: FloatArray | None = None
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Refit with the points' weights times `counts_BN` (and other targets, on the objective's scale, where given)."""
    problem = Problem(
        model=fit.problem.model,
        objective=fit.objective,
        target=fit.problem.target if target_BN is None else target_BN,
        weights=counts_BN * fit.problem.weights,
    )
    held_P = np.array([name in fit.fixed for name in fit.law.names])
    num = max(len(counts_BN), len(problem.target))
    best = minimise(problem, np.tile(fit.theta, (num, 1)), held_P=held_P)
    theta_BP, value_B, converged_B = best.theta, best.value, best.converged
    for optimum in fit.local_optima:
        if ratio(fit.problem, fit.theta, fit.log_scale, fit.value, np.array([optimum.objective]))[0] > RIVAL:
            continue
        other = minimise(problem, np.tile(np.array(optimum.theta), (num, 1)), held_P=held_P)
        better_B = other.value < value_B
        theta_BP = np.where(better_B[:, None], other.theta, theta_BP)
        value_B = np.where(better_B, other.value, value_B)
        converged_B = np.where(better_B, other.converged, converged_B)
    return theta_BP, value_B, converged_B


def group_codes(
    num_points: int,
    columns: Mapping[str, FloatArray],
    cluster: str | None,
    clusters: Sequence[object] | npt.NDArray[np.generic] | None,
) -> npt.NDArray[np.intp] | None:
    """The number of each run's group [N], from `clusters` or else the column `cluster`; None without both."""
    if clusters is None and cluster is None:
        return None
    if clusters is None:
        assert cluster is not None
        if cluster not in columns:
            raise FitError(
                f"there is no column {cluster!r} to group the runs by; the law reads {', '.join(columns)}."
                " Give each run's group as `clusters`"
            )
        clusters = columns[cluster]
    names = np.asarray(clusters)
    if len(names) != num_points:
        raise FitError(f"groups are given for {formatting.counted(len(names), 'run')}; the table has {num_points}")
    codes: npt.NDArray[np.intp] = np.unique(names.astype(str), return_inverse=True)[1].reshape(-1)
    return codes
