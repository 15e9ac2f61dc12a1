"""The level at which a series saturates is found where the data bend, and refused where they do not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.sweep.knowledge import knowledge
from analysis.tables.runs import Runs

OFFERED = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)


def runs(
    capacity: dict[str, float], *, noise: float = 0.02, seed: int = 0, offered: tuple[float, ...] = OFFERED
) -> Runs:
    random, made = np.random.default_rng(seed), []
    for series, level in capacity.items():
        for bits in offered:
            stored = bits if np.isinf(level) else level * (1 - np.exp(-bits / level))
            for run_seed in range(3):
                made.append({
                    "name": "", "family": series, "series": series, "budget": f"facts{bits:g}", "seed": run_seed,
                    "budget_flops": 1e14 * bits, "flops_train": 1e14 * bits, "loss_nats": 3.0,
                    "bits_offered_per_parameter": bits,
                    "bits_stored_per_parameter": stored + noise * random.standard_normal(),
                })  # fmt: skip
    return Runs(frame=pd.DataFrame(made))


def test_the_level_is_found_and_its_interval_holds_it() -> None:
    held = 0
    for seed in range(20):
        found = knowledge(runs({"dense": 1.2, "memory_plus": 3.0}, seed=seed), num_replicates=400)
        assert found is not None
        for one, true in zip(found.series, (1.2, 3.0), strict=True):
            assert one.level == pytest.approx(true, rel=0.1)
            assert one.share == pytest.approx(1.0, rel=0.1)
            assert one.interval is not None
            held += one.interval.holds(true)
    assert held >= 33  # of 40; 38 are expected


def test_what_does_not_bend_is_refused() -> None:
    found = knowledge(runs({"dense": np.inf}))
    assert found is not None
    (one,) = found.series
    assert (one.level, one.interval) == (None, None)
    assert "does not bend" in one.refusal
    assert "no saturation" in found.summary()
    assert list(found.to_frame()["saturation"].isna()) == [True] * len(OFFERED)


def test_a_bend_that_noise_nearly_hides_has_no_upper_end() -> None:
    ends = []
    for seed in range(12):
        found = knowledge(runs({"dense": 3.0}, noise=0.08, seed=seed, offered=(0.25, 0.5, 1.0)), num_replicates=300)
        assert found is not None
        (one,) = found.series
        ends.append(np.inf if one.interval is None else one.interval.upper)
    assert np.isinf(ends).sum() >= 6


@pytest.mark.parametrize("offered", [(0.5, 1.0), (0.9, 1.0, 1.1)])
def test_few_amounts_or_similar_ones_are_no_curve(offered: tuple[float, ...]) -> None:
    assert knowledge(runs({"dense": 1.0}, offered=offered)) is None


def test_means_that_fall_again_are_warned_of() -> None:
    table = runs({"dense": 1.0})
    last = table.frame["bits_offered_per_parameter"] == OFFERED[-1]
    table = Runs(frame=table.frame.assign(
        bits_stored_per_parameter=table.frame["bits_stored_per_parameter"].where(~last, 0.3)
    ))  # fmt: skip
    found = knowledge(table)
    assert found is not None
    assert "miss this law" in found.series[0].warning
