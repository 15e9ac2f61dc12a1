"""Simulated tables for the intervals of `gain`: the multiplier, the difference by the laws, and the mean difference.

Two families, three to five budgets half a decade apart; the subject is worth `MULTIPLIER` times the compute. Truths: a
straight line in logarithms, and a law with an irreducible loss that is half of the loss at the first budget. Seeds are
alone (each run has its own noise), shared (the runs of a seed at all budgets have half of their variance in common), or
uneven (the noise doubles from one budget to the next).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from analysis.gains.gain import gain_between
from analysis.gains.run_table import runs_along
from analysis.gains.scaling_curves import FLOPS
from benchmarks.coverage import Case, Held

MULTIPLIER = 1.5
NOISE = 4e-3
"""Standard deviation of ln of a run's loss, at the first budget."""
STEP = 10**0.5
TARGET = (0.93, 0.97)
DESIGNS = ((3, 2), (4, 1), (3, 3), (5, 5))
"""Budgets and seeds."""


def exact(law: str, flops: float, gain: float) -> float:
    """The loss without noise, in nats."""
    x = flops * gain / 1e17
    return float(3.6 * x**-0.08 if law == "line" else 1.8 + 1.8 * x**-0.16)


def table(random: np.random.Generator, *, law: str, budgets: int, seeds: int, kind: str) -> Held:
    """One table, and whether each interval of its gain holds the truth."""
    flops = 1e17 * STEP ** np.arange(budgets)
    series, x, loss, unit = [], [], [], []
    for name, gain in (("subject", MULTIPLIER), ("baseline", 1.0)):
        shared = random.standard_normal(seeds) * (0.5**0.5 if kind == "shared" else 0.0)
        for at, budget in enumerate(flops):
            own = random.standard_normal(seeds) * (0.5**0.5 if kind == "shared" else 1.0)
            size = NOISE * (2.0**at if kind == "uneven" else 1.0)
            for seed in range(seeds):
                series.append(name)
                x.append(budget)
                unit.append(seed)
                loss.append(exact(law, budget, gain) * np.exp(size * (shared[seed] + own[seed])))
    runs = runs_along(FLOPS, series=series, x=np.array(x), loss=np.array(loss), unit=np.array(unit))
    found = gain_between(runs, "subject", "baseline", FLOPS)
    assert found.differences is not None
    true = [exact(law, budget, MULTIPLIER) - exact(law, budget, 1.0) for budget in flops]
    intervals = {
        "multiplier": (found.multiplier.interval, MULTIPLIER),
        "difference by the laws": (found.law_differences[0].interval, true[-1]),
        "difference at the largest budget": (found.differences.largest.interval, true[-1]),
        "mean difference": (found.differences.overall.interval, float(np.mean(true))),
    }
    return {name: None if ends is None else ends.holds(truth) for name, (ends, truth) in intervals.items()}


def cases() -> list[Case]:
    """Every design under both laws; three seeds and more also with shared and with uneven noise."""
    found = []
    for law in ("line", "offset"):
        for budgets, seeds in DESIGNS:
            for kind in ("alone", "shared", "uneven") if seeds > 2 else ("alone",):
                found.append(
                    Case(
                        name=f"gain: {law}, {budgets} budgets x {seeds} seeds, noise {kind}",
                        words=f"two families, law: {law}, relative noise {NOISE:g} ({kind}), multiplier {MULTIPLIER:g}",
                        table=partial(table, law=law, budgets=budgets, seeds=seeds, kind=kind),
                        target=TARGET,
                    )
                )
    return found
