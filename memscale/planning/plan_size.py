"""How many runs a sweep asks for, counted from its lengths alone, before anything is expanded.

Refuses a plan above `limits.runs`, with what makes it so large.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from memscale.config.grid import Block
from memscale.config.recipe import TUNED
from memscale.config.sweep import Sweep
from memscale.errors import PlanError
from memscale.planning.tuning import points_of_rounds


def most_runs(sweep: Sweep) -> int:
    """Return the runs of the plan before cells are dropped, tuning included.

    Example:
        >>> from memscale.config.load import load_sweep
        >>> most_runs(load_sweep("memory_vs_moe", ["launcher=local", "scale=laptop"]).sweep)
        39
    """
    return _tuning(sweep) + sum(prod(lengths.values()) for lengths in _blocks(sweep))


def refuse_too_many(sweep: Sweep) -> None:
    """Raise PlanError where the plan has more runs than `limits.runs`."""
    runs, limit = most_runs(sweep), sweep.limits.runs
    if runs <= limit:
        return
    largest = max(_blocks(sweep), key=lambda lengths: prod(lengths.values()))
    factors = [f"{number:,} {name}" for name, number in sorted(largest.items(), key=lambda item: -item[1])]
    if _tuning(sweep) > prod(largest.values()):
        factors = [
            f"{len(sweep.families):,} families",
            f"{len(sweep.recipe.tune.learning_rates):,} recipe.tune.learning_rates",
            f"{len(sweep.recipe.tune.table_factors):,} recipe.tune.table_factors",
        ]
    raise PlanError(
        f"the sweep {sweep.name} plans {runs:,} runs, above limits.runs ({limit:,}); the most of them are "
        f"{' x '.join(factors)}. Name fewer values, or raise limits.runs"
    )


def _tuning(sweep: Sweep) -> int:
    """The runs of all rounds, without what extensions of the grids may add."""
    recipe = sweep.recipe
    if recipe.learning_rate.rule != TUNED:
        return 0
    return len(sweep.families) * sum(
        points * seeds for points, seeds in zip(points_of_rounds(recipe), recipe.tune.round_seeds, strict=False)
    )


def _blocks(sweep: Sweep) -> Iterator[dict[str, int]]:
    """The lengths whose product is the number of runs, for each block of the grid."""
    scale = sweep.scale
    budgets = len(scale.budgets) + sum(len(ladder.d_models) for ladder in scale.ladders)
    budgets += sum(len(grid.flops) * grid.points for grid in scale.isoflops)
    everywhere = {"budgets": budgets, "scale.seeds": len(scale.seeds)}
    if not sweep.grid:
        yield {"families": len(sweep.families), **everywhere}
    for number, block in enumerate(sweep.grid):
        lengths = {f"grid[{number}].families": len(block.families)}
        lengths |= {f"grid[{number}].{name}": length for name, length in _axes(block)}
        keys = {axis.key for axis in (*block.product, *block.zip)}
        lengths |= {name: length for name, length in everywhere.items() if name.strip("s").split(".")[-1] not in keys}
        yield lengths


def _axes(block: Block) -> Iterator[tuple[str, int]]:
    for axis in block.product:
        yield f"product.{axis.key}", len(axis.values)
    if block.zip:
        yield f"zip ({', '.join(axis.key for axis in block.zip)})", len(block.zip[0].values)
