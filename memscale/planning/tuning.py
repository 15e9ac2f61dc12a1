"""How learning rates are tuned: the grid of each family, its extension at an edge, and the rounds of the tuning.

Every family is tuned by the same rule with the same number of runs, at its smallest budget or the one that
`tune.budget` names:

1. A family with a memory table has a grid of two dimensions: learning rates, and the table's rate as a multiple of
   them. A family without one has as many points along its learning rate, over the same range.
2. Round 1, stage `tune`, trains every point of the grid. Where the best point lies at an edge, the grid is extended
   beyond it, at most `extensions` times (stages `tune-extended`, `tune-extended-2`, ...).
3. Each later round, stage `tune-2` and on, trains the best points of the round before from seeds that no earlier round
   had (successive halving: Jamieson and Talwalkar 2016). The mean loss of the last round decides, so the runs that
   chose the last points do not choose among them (`memscale.planning.choices`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from memscale.config.recipe import TUNED, Recipe

TUNE = "tune"
EXTENDED = "tune-extended"
COMPARE = "compare"

_HIGHEST_RATE = 1e3
"""What the configuration allows; a grid is not extended beyond it."""


@dataclass(frozen=True, kw_only=True, order=True)
class Rates:
    """Peak learning rates of the model and of its memory tables, if it has any."""

    learning_rate: float
    table_learning_rate: float | None = None

    @property
    def table_factor(self) -> float:
        """The table's rate as a multiple of the model's, to 9 digits; 0 without a table."""
        return float(f"{(self.table_learning_rate or 0.0) / self.learning_rate:.9g}")


def is_tuning(stage: str) -> bool:
    """Whether a stage tunes rates; the other one compares.

    Example:
        >>> [is_tuning(stage) for stage in ("tune", "tune-extended-2", "tune-2", "compare")]
        [True, True, True, False]
    """
    return stage != COMPARE


def points_of_rounds(recipe: Recipe) -> tuple[int, ...]:
    """Return how many points each round trains: all, then the share `keep` of the round before, rounded up.

    At least two points go on, and a grid of one point has one round, since nothing is left to choose.

    Example:
        >>> from memscale.config.recipe import Tune
        >>> tune = Tune(learning_rates=(1e-3, 2e-3, 5e-3, 0.01), table_factors=(0.5, 1.5, 4.0), round_seeds=(1, 2, 2))
        >>> points_of_rounds(Recipe(name="r", tune=tune))
        (12, 4, 2)
    """
    counts = [recipe.tune.num_points]
    if counts[0] == 1:
        return (1,)
    for _ in recipe.tune.round_seeds[1:]:
        counts.append(min(counts[-1], max(2, math.ceil(counts[-1] * recipe.tune.keep - 1e-9))))
    return tuple(counts)


def seeds_of_round(recipe: Recipe, number: int) -> tuple[int, ...]:
    """Return the seeds of round `number`, counted from 1: consecutive ones from `tune_seed` on, none of them twice."""
    before = sum(recipe.tune.round_seeds[: number - 1])
    return recipe.tune_seeds[before : before + recipe.tune.round_seeds[number - 1]]


def stage_of_round(number: int) -> str:
    """Return the stage of a round, counted from 1."""
    return TUNE if number == 1 else f"{TUNE}-{number}"


def round_of_stage(stage: str) -> int:
    """Return the round of a stage of tuning; extensions belong to round 1.

    Example:
        >>> [round_of_stage(stage) for stage in ("tune", "tune-extended-2", "tune-3")]
        [1, 1, 3]
    """
    return 1 if stage == TUNE or stage.startswith(EXTENDED) else int(stage.removeprefix(f"{TUNE}-"))


def stages(recipe: Recipe) -> tuple[str, ...]:
    """Return the stages of a plan in their order; one opens when those before it have ended.

    Example:
        >>> from memscale.config.recipe import Tune
        >>> stages(Recipe(name="r", tune=Tune(learning_rates=(0.01, 0.02))))
        ('tune', 'tune-extended', 'tune-extended-2', 'tune-2', 'compare')
    """
    if recipe.learning_rate.rule != TUNED:
        return (COMPARE,)
    rounds = len(points_of_rounds(recipe))
    extensions = recipe.tune.extensions if recipe.tune.num_points > 1 else 0
    named = [EXTENDED if number == 1 else f"{EXTENDED}-{number}" for number in range(1, extensions + 1)]
    later = [stage_of_round(number) for number in range(2, rounds + 1)]
    return (TUNE, *named, *later, COMPARE)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The points that are tried for a family: every learning rate with every multiple of it for the table."""

    learning_rates: tuple[float, ...]
    """Increasing."""
    table_factors: tuple[float, ...]
    """Increasing; empty for a family without a table."""
    step: int
    """Learning rates that an extension adds: 1, or where there is no table as many as the grid has table factors."""

    def points(self) -> tuple[Rates, ...]:
        """Return every point, in increasing order."""
        if not self.table_factors:
            return tuple(Rates(learning_rate=rate) for rate in self.learning_rates)
        return tuple(
            Rates(learning_rate=rate, table_learning_rate=rounded(rate * factor))
            for rate in self.learning_rates
            for factor in self.table_factors
        )

    def at_edge(self, best: Rates) -> bool:
        """Whether a point has the lowest or highest learning rate or table factor; an axis of one value has no edge."""
        return _is_edge(best.learning_rate, self.learning_rates) or _is_edge(best.table_factor, self.table_factors)

    def extended(self, best: Rates) -> Grid:
        """Return the grid with further values beyond each edge that `best` lies at, in geometric continuation.

        Example:
            >>> grid = Grid(learning_rates=(0.005, 0.01), table_factors=(1.0, 4.0), step=1)
            >>> grid.extended(Rates(learning_rate=0.01, table_learning_rate=0.01))
            Grid(learning_rates=(0.005, 0.01, 0.02), table_factors=(0.25, 1.0, 4.0), step=1)
        """
        return Grid(
            learning_rates=_beyond(self.learning_rates, best.learning_rate, self.step),
            table_factors=_beyond(self.table_factors, best.table_factor, 1),
            step=self.step,
        )


def first_grid(recipe: Recipe, *, has_table: bool) -> Grid:
    """Return the grid of round 1; with or without a table it has the same number of points.

    Without a table the further learning rates fall between the given ones, always into the widest gap by ratio, which
    is divided into equal ratios; rounded to 3 digits.
    """
    rates = tuple(sorted(recipe.tune.learning_rates))
    factors = tuple(sorted(float(f"{factor:.9g}") for factor in recipe.tune.table_factors))
    if has_table:
        return Grid(learning_rates=rates, table_factors=factors, step=1)
    fine = _refined(rates, len(rates) * len(factors))
    return Grid(learning_rates=fine, table_factors=(), step=len(factors))


def grid_of(recipe: Recipe, tried: tuple[Rates, ...]) -> Grid:
    """Return the grid that the points tried in round 1 and its extensions make up."""
    has_table = tried[0].table_learning_rate is not None
    return Grid(
        learning_rates=tuple(sorted({rates.learning_rate for rates in tried})),
        table_factors=tuple(sorted({rates.table_factor for rates in tried})) if has_table else (),
        step=first_grid(recipe, has_table=has_table).step,
    )


def most_extra_points(recipe: Recipe, *, has_table: bool) -> int:
    """Return the most points that all extensions together can add: the best one lies at a corner each time."""
    grid = first = first_grid(recipe, has_table=has_table)
    for _ in range(recipe.tune.extensions):
        grid = grid.extended(grid.points()[-1])
    return len(grid.points()) - len(first.points())


def rounded(value: float) -> float:
    """Round to 12 significant digits, so that products such as 0.006 x 3 have short names."""
    return float(f"{value:.12g}")


def _refined(rates: tuple[float, ...], count: int) -> tuple[float, ...]:
    """Return `count` increasing rates: the given ones, and others between neighbours."""
    if len(rates) == 1:
        return rates
    parts = [1] * (len(rates) - 1)
    widths = [math.log(high / low) for low, high in pairwise(rates)]
    for _ in range(count - len(rates)):
        widest = max(range(len(parts)), key=lambda gap: round(widths[gap] / parts[gap], 9))
        parts[widest] += 1
    for digits in (3, 12):  # short names where the rates stay apart
        found = set(rates)
        for (low, high), num in zip(pairwise(rates), parts, strict=True):
            found |= {float(f"{low * (high / low) ** (part / num):.{digits}g}") for part in range(1, num)}
        if len(found) == count:
            break
    return tuple(sorted(found))


def _is_edge(value: float, values: tuple[float, ...]) -> bool:
    return len(values) > 1 and value in (values[0], values[-1])


def _beyond(values: tuple[float, ...], best: float, count: int) -> tuple[float, ...]:
    """Return `values` with `count` more beyond the edge that `best` is at; unchanged where it is at none."""
    if not _is_edge(best, values):
        return values
    edge, neighbour = (values[0], values[1]) if best == values[0] else (values[-1], values[-2])
    found = [float(f"{edge * (edge / neighbour) ** power:.3g}") for power in range(1, count + 1)]
    allowed = [value for value in found if 0 < value <= _HIGHEST_RATE and value not in values]
    return tuple(sorted({*values, *allowed}))
