"""What tuning runs lead to: the points that go on to the next round, and the rates that are chosen in the end.

A point counts by the mean loss of its runs of one round, and only where all of them ended with a finite loss: rates
that diverge for one seed in two are not used. With `recipe.tune.choice: one_standard_error` the lowest rates within a
standard error of the best mean are chosen; the noise of a run is pooled over all families. Refuses to choose where no
point counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from memscale.errors import PlanError
from memscale.planning.tuning import Grid, Rates, round_of_stage


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A tuning run: its rates, its place in the tuning, and its loss."""

    rates: Rates
    stage: str
    """`tune`, `tune-extended`, `tune-2`, ...: the round and the extension it belongs to."""
    seed: int
    loss: float | None
    """Validation loss of the mixture in nats per token; None where it failed or diverged."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The points of a family that a stage of tuning trains, chosen from the stages before; may be none."""

    stage: str
    family_name: str
    """The family's name in the sweep."""
    points: tuple[Rates, ...]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen rates of a family, and the trials that they were chosen from."""

    family_name: str
    """The family's name in the sweep."""
    rates: Rates
    at_edge: bool
    """Whether the learning rate or the table's multiple of it is the lowest or highest that was tried."""
    trials: tuple[Trial, ...]


def best_points(family_name: str, trials: Iterable[Trial], number: int) -> tuple[Rates, ...]:
    """Return up to `number` points of the lowest mean loss, the lowest first; the lower rate first on a tie.

    Args:
        family_name: For the message.
        trials: The runs of one round.
        number: At most as many points are returned.

    Raises:
        PlanError: No point has only runs that ended with a finite loss.
    """
    losses: dict[Rates, list[float | None]] = {}
    for trial in trials:
        losses.setdefault(trial.rates, []).append(_finite(trial.loss))
    means = {rates: _mean(found) for rates, found in losses.items()}
    ranked = sorted((mean, _order(rates), rates) for rates, mean in means.items() if mean is not None)
    if not ranked:
        raise PlanError(
            f"no tuning run of {family_name} ended with a finite loss for every seed, so its learning rate cannot be "
            "chosen. Look at their logs, and give recipe.tune.learning_rates lower values"
        )
    return tuple(rates for _, _, rates in ranked[:number])


def beyond_edge(family_name: str, grid: Grid, trials: Iterable[Trial]) -> tuple[Rates, ...]:
    """Return the points that extend the grid of round 1 beyond the edges at which its best point lies; none inside.

    Raises PlanError where no point has a finite loss.
    """
    (best,) = best_points(family_name, trials, 1)
    known = set(grid.points())
    return tuple(rates for rates in grid.extended(best).points() if rates not in known)


def choose(family_name: str, grid: Grid, trials: Sequence[Trial], noise_std: float = 0.0) -> Choice:
    """Choose the lowest rates within a standard error of the lowest mean loss of the last round.

    Args:
        family_name: The family's name in the sweep.
        grid: All points that were tried.
        trials: The runs of all rounds.
        noise_std: Standard deviation of a run, which a standard error is taken from; 0: the lowest mean is chosen.

    Raises:
        PlanError: No point of the last round has only runs that ended with a finite loss.

    Example:
        >>> def trial(rate: float, loss: float, stage: str, seed: int) -> Trial:
        ...     return Trial(rates=Rates(learning_rate=rate), loss=loss, stage=stage, seed=seed)
        >>> grid = Grid(learning_rates=(0.005, 0.01, 0.02), table_factors=(), step=1)
        >>> trials = [trial(rate, loss, "tune", 0) for rate, loss in ((0.005, 3.1), (0.01, 2.9), (0.02, 2.8))]
        >>> trials += [trial(0.01, 2.9, "tune-2", 1), trial(0.02, 3.3, "tune-2", 1)]
        >>> choice = choose("dense", grid, trials)
        >>> choice.rates.learning_rate, choice.at_edge  # the run that was best by luck is not chosen
        (0.01, False)
    """
    final = _last_round(trials)
    ranked = best_points(family_name, final, len(final))
    losses = {rates: [trial.loss for trial in final if trial.rates == rates] for rates in ranked}
    means = {rates: fmean(loss for loss in found if loss is not None) for rates, found in losses.items()}
    most = means[ranked[0]] + noise_std / math.sqrt(len(losses[ranked[0]]))
    best = min((rates for rates in ranked if means[rates] <= most), key=_order)
    kept = tuple(sorted((_cleaned(trial) for trial in trials), key=_place))
    return Choice(family_name=family_name, rates=best, at_edge=grid.at_edge(best), trials=kept)


def noise_of(trials: Iterable[Sequence[Trial]]) -> float:
    """Return the standard deviation of a run of the last round, pooled over the points of all families.

    0.0 where no point has two runs.

    Args:
        trials: The runs of all rounds, of each family.
    """
    squares, degrees = 0.0, 0
    for family in trials:
        by_rates: dict[Rates, list[float]] = {}
        for trial in _last_round(family):
            loss = _finite(trial.loss)
            if loss is not None:
                by_rates.setdefault(trial.rates, []).append(loss)
        for losses in by_rates.values():
            squares += sum((loss - fmean(losses)) ** 2 for loss in losses)
            degrees += len(losses) - 1
    return math.sqrt(squares / degrees) if degrees else 0.0


def _last_round(trials: Sequence[Trial]) -> list[Trial]:
    last = max(round_of_stage(trial.stage) for trial in trials)
    return [trial for trial in trials if round_of_stage(trial.stage) == last]


def _mean(losses: Sequence[float | None]) -> float | None:
    finite = [loss for loss in losses if loss is not None]
    return fmean(finite) if len(finite) == len(losses) else None


def _finite(loss: float | None) -> float | None:
    return loss if loss is not None and math.isfinite(loss) else None


def _cleaned(trial: Trial) -> Trial:
    return Trial(rates=trial.rates, stage=trial.stage, seed=trial.seed, loss=_finite(trial.loss))


def _place(trial: Trial) -> tuple[int, tuple[float, float], int]:
    return (round_of_stage(trial.stage), _order(trial.rates), trial.seed)


def _order(rates: Rates) -> tuple[float, float]:
    return (rates.learning_rate, rates.table_learning_rate or 0.0)
