"""Simulated tables for the intervals of differences: what families, seeds and budgets share, and noise that is uneven.

Families without a difference in a loss of 3 nats, budgets a factor of two apart. In units of a run's own noise: `seed`
is what all families of a seed share at a budget, `series` what a family's seed shares over budgets, `growth` the factor
of all noise from a budget to the next, `spread` that of a third family. Heavy tails are Student's t with 4 degrees of
freedom; `missing` is the share of runs that failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from analysis.gains.differences import compare
from analysis.gains.measures import LOSS
from analysis.tables.runs import Runs
from benchmarks.coverage import Case, Held

NOISE = 0.01
TARGET = (0.93, 0.97)


@dataclass(frozen=True, kw_only=True)
class Design:
    """What a table is drawn from."""

    families: int
    budgets: int
    seeds: int
    seed: float = 0.0
    series: float = 0.0
    growth: float = 1.0
    spread: float = 1.0
    heavy: bool = False
    missing: float = 0.0

    @property
    def words(self) -> str:
        """Such as '3 families x 3 budgets x 2 seeds, seed 3'."""
        parts = [f"{self.families} families x {self.budgets} budgets x {self.seeds} seeds"]
        parts += [f"{name} {getattr(self, name):g}" for name in ("seed", "series") if getattr(self, name)]
        parts += [f"growth {self.growth:g}"] if self.growth != 1 else []
        parts += [f"spread {self.spread:g}"] if self.spread != 1 else []
        parts += ["heavy tails"] if self.heavy else []
        parts += [f"missing {self.missing:g}"] if self.missing else []
        return ", ".join(parts)


def table(random: np.random.Generator, *, design: Design) -> Held:
    """One table, and whether the intervals of the first two families' difference hold zero."""
    shape = (design.families, design.budgets, design.seeds)

    def draw(*size: int) -> np.ndarray:
        return random.standard_t(4, size) / 2**0.5 if design.heavy else random.standard_normal(size)

    family, budget, seed = (one.ravel() for one in np.indices(shape))
    own = design.series * draw(shape[0], shape[2])[family, seed] + draw(*shape).ravel()
    own = np.where(family == 2, design.spread * own, own)
    value = 3.0 + NOISE * design.growth**budget * (design.seed * draw(shape[1], shape[2])[budget, seed] + own)
    names = np.array([chr(ord("a") + number) for number in family])
    flops = 1e15 * 2.0**budget
    frame = pd.DataFrame({
        "name": "", "family": names, "series": names, "budget": [f"{one:g}" for one in flops], "seed": seed,
        "budget_flops": flops, "flops_train": flops, "loss_nats": value,
    })  # fmt: skip
    # A cell without a run is no comparison: its first seed never fails.
    done = (random.random(len(frame)) >= design.missing) | (seed == 0)
    found = compare(Runs(frame=frame[done]), "a", "b", LOSS)
    held = {"largest budget": found.largest.interval, "mean over budgets": found.overall.interval}
    return {name: None if interval is None else interval.holds(0.0) for name, interval in held.items()}


def designs() -> list[Design]:
    """Small and larger tables under each kind of noise."""
    found = []
    for families, budgets, seeds in ((2, 3, 3), (3, 3, 2), (3, 3, 3), (6, 2, 4), (3, 5, 8)):
        shape = {"families": families, "budgets": budgets, "seeds": seeds}
        found += [
            Design(**shape),
            Design(**shape, seed=3.0),
            Design(**shape, seed=1.0, series=0.7),
            Design(**shape, growth=2.0),
            Design(**shape, seed=2.0, growth=1.5),
            Design(**shape, seed=1.0, heavy=True),
        ]
    found += [Design(families=3, budgets=1, seeds=3, seed=1.0), Design(families=2, budgets=1, seeds=8)]
    found += [Design(families=3, budgets=3, seeds=3, spread=4.0), Design(families=4, budgets=3, seeds=5, missing=0.15)]
    found.append(Design(families=4, budgets=3, seeds=5, seed=2.0, missing=0.15))
    return found


def cases() -> list[Case]:
    """A case a design."""
    return [
        Case(
            name=f"difference: {design.words}",
            words=f"no difference, loss 3 nats, noise {NOISE:g} nats; {design.words}",
            table=partial(table, design=design),
            target=TARGET,
        )
        for design in designs()
    ]
