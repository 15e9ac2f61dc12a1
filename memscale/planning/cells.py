"""The cells of a sweep: which families are trained with which settings at which budgets and seeds.

Without a grid: every family at every budget and seed. With one: the union of its blocks; a cell that two blocks name is
trained once, and the second mention is dropped with the reason. Refuses keys and budgets that do not exist, and a
series that two blocks define differently at one budget.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memscale.config.codec import changed
from memscale.config.family import Family
from memscale.config.grid import Axis, Block
from memscale.config.sweep import Sweep
from memscale.errors import ConfigError, nearest
from memscale.planning.budgets import DenseBaseline, Dropped
from memscale.planning.names import value_name


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve: a family with the settings of one grid cell."""

    label: str
    """The family's name and the settings that the grid varies, such as 'memory_plus num_slots=4096'."""
    family: Family
    family_name: str
    """The family's name in the sweep; its learning rates are tuned once for all of its series."""


@dataclass(kw_only=True)
class Cells:
    """The series of every budget with their seeds, in the order of the grid."""

    by_budget: dict[str, dict[str, tuple[Series, list[int]]]]
    dropped: list[Dropped]


def cells(sweep: Sweep, baselines: Sequence[DenseBaseline]) -> Cells:
    """Expand the grid of `sweep` at `baselines`.

    Raises:
        ConfigError: A key, budget or seed does not exist or is not allowed, or two blocks define one series
            differently.
    """
    found = Cells(by_budget={baseline.name: {} for baseline in baselines}, dropped=[])
    if not sweep.grid:
        for here in found.by_budget.values():
            for family in sweep.families:
                series = Series(label=family.name, family=family, family_name=family.name)
                here[series.label] = (series, list(sweep.scale.seeds))
        return found
    origin: dict[tuple[str, str, int], str] = {}
    for number, block in enumerate(sweep.grid):
        where = f"grid[{number}]"
        absent = [name for name in block.families if name not in {family.name for family in sweep.families}]
        found.dropped += [Dropped(name=f"{name} ({where})", reason="the sweep has no such family") for name in absent]
        for series, budget, seed in _expand(sweep, block, [baseline.name for baseline in baselines], where):
            _add(found, series, budget, seed, where, origin)
    return found


def _add(
    found: Cells, series: Series, budget: str, seed: int, where: str, origin: dict[tuple[str, str, int], str]
) -> None:
    known, seeds = found.by_budget[budget].setdefault(series.label, (series, []))
    if known.family != series.family:
        first = origin[series.label, budget, seeds[0]]
        raise ConfigError(
            f"{where} defines '{series.label}' at the budget {budget} otherwise than {first} does: {series.family} "
            f"against {known.family}. Vary the key in `product`, or give the family a second name"
        )
    if seed in seeds:
        first = origin[series.label, budget, seed]
        name = f"{series.label} at {budget}, seed {seed} ({where})"
        found.dropped.append(Dropped(name=name, reason=f"named by {first} already"))
        return
    seeds.append(seed)
    origin[series.label, budget, seed] = where


def _expand(sweep: Sweep, block: Block, budgets: list[str], where: str) -> Iterator[tuple[Series, str, int]]:
    """Yield (series, budget name, seed) for every cell of one block."""
    families = {family.name: family for family in sweep.families}
    _check_budgets(block, budgets, where)
    known: dict[tuple[str, str], Series] = {}
    for name in block.families:
        if name not in families:
            continue
        for cell in _combinations(block):
            settings = {key: value for key, value in cell.items() if key not in ("budget", "seed")}
            label = _label(name, settings, block)
            # Equal settings share one object, which `Identities` relies on.
            key = (label, repr(settings))
            if key not in known:
                family = changed(families[name], settings, f"{where}.{name}") if settings else families[name]
                known[key] = Series(label=label, family=family, family_name=name)
            for budget in [_budget(cell["budget"])] if "budget" in cell else budgets:
                for seed in [_seed(cell["seed"], sweep, where)] if "seed" in cell else sweep.scale.seeds:
                    yield known[key], budget, seed


def _combinations(block: Block) -> Iterator[dict[str, Any]]:
    together = [dict(zip((axis.key for axis in block.zip), values, strict=True)) for values in _rows(block.zip)]
    keys = [axis.key for axis in block.product]
    for row in together or [{}]:
        for values in itertools.product(*(axis.values for axis in block.product)):
            yield {**row, **dict(zip(keys, values, strict=True))}


def _rows(axes: Sequence[Axis]) -> list[tuple[Any, ...]]:
    return list(zip(*(axis.values for axis in axes), strict=True))


def _label(name: str, settings: Mapping[str, Any], block: Block) -> str:
    """Return a series' label; settings zipped with the budget are not part of it."""
    zipped = {axis.key for axis in block.zip}
    shown = {key: value for key, value in settings.items() if not ("budget" in zipped and key in zipped)}
    return " ".join([name, *(f"{key}={value_name(value)}" for key, value in shown.items())])


def _check_budgets(block: Block, budgets: list[str], where: str) -> None:
    for axis in (*block.product, *block.zip):
        for value in axis.values if axis.key == "budget" else ():
            name = _budget(value)
            if name not in budgets:
                raise ConfigError(
                    f"{where}.budget names '{name}'; there are: {', '.join(budgets)}.{nearest(name, budgets)}"
                )


def _budget(value: Any) -> str:
    """Return a budget's name as text; YAML reads 4e11 as a number."""
    return value if isinstance(value, str) else value_name(value)


def _seed(value: Any, sweep: Sweep, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{where}.seed names {value!r}; it needs whole numbers of at least 0")
    if value in sweep.recipe.tune_seeds:
        raise ConfigError(
            f"{where}.seed names {value}, a seed of tuning (recipe.tune_seed and on): tuning must not see the compared "
            "runs"
        )
    return value
