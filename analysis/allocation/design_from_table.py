"""`design`: the next runs to train, as a notebook calls it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from analysis.allocation.design import Design, next_runs
from analysis.fitting.fit import fit
from analysis.tables import Observations, TableLike, TableOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


def design(
    table: TableLike | Observations,
    *,
    target: float,
    budget: float,
    runs: int = 12,
    seeds: int = 1,
    law: str = "chinchilla",
    objective: str = "log_huber",
    delta: float | None = None,
    fix: Mapping[str, float] | None = None,
    tie: Mapping[str, str] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    bootstrap: int | None = None,
    seed: int = 0,
    **options: Unpack[TableOptions],
) -> Design:
    """Choose the next runs that narrow the interval of the compute-optimal N at `target` FLOPs most.

    The law is fitted to the table; settings are added one after the other, each the one that takes most off the
    variance of ln N*, given all before it. All settings differ.

    Args:
        table: a DataFrame, a path or observations, with N, D and the loss.
        target: training FLOPs whose optimal N is wanted.
        budget: FLOPs to spend on the next runs, all seeds together.
        runs: at most so many settings.
        seeds: runs of each setting.
        law: a law of N and D.
        objective: of the fit, as of `analysis.fit`.
        delta: of a Huber objective.
        fix: coefficients held at a value; what is fixed needs no runs.
        tie: coefficients that equal another.
        bounds: of coefficients.
        bootstrap: of the fit; its intervals are not those of the design.
        seed: of the fit's resampling.
        **options: the columns and rows of the table. Rows of one `cluster` are not independent.

    Returns:
        The settings, with `to_frame()` (one row a run) and `summary()`.

    Raises:
        TableError: a column is missing or a value cannot be used.
        FitError: the fit does not determine the law's coefficients, or the budget buys no run.

    Example:
        >>> import numpy as np
        >>> params, tokens = np.repeat(np.geomspace(2e7, 3e8, 5), 5), np.tile(np.geomspace(5e8, 1e10, 5), 5)
        >>> noise = 1 + 0.003 * np.random.default_rng(0).standard_normal(25)
        >>> loss = (1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28) * noise
        >>> found = design({"N": params, "D": tokens, "loss": loss}, target=1e21, budget=1e20, runs=3)
        >>> len({(run.params, run.tokens) for run in found.runs}), found.flops <= 1e20
        (3, True)
    """
    fitted = fit(table, law, objective=objective, delta=delta, fix=fix, tie=tie, bounds=bounds, bootstrap=bootstrap,
                 seed=seed, **options)  # fmt: skip
    return next_runs(fitted, target_flops=target, budget_flops=budget, most_runs=runs, num_seeds=seeds)
