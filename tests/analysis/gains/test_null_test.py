"""Differences are called about as often as they say where there is none, and where there is one they are called."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.errors import FitError
from analysis.gains.measures import LOSS
from analysis.gains.null_test import calls_of, resampled_pairs
from analysis.tables.runs import Runs

NUM_SEEDS = 40


def runs(*, gap: float = 0.0, names: tuple[str, ...] = ("dense",), num_seeds: int = NUM_SEEDS, seed: int = 0) -> Runs:
    random, made = np.random.default_rng(seed), []
    for number, name in enumerate(names):
        for flops in (1e15, 4e15):
            for run_seed in range(num_seeds):
                made.append({
                    "name": "", "family": "dense", "series": name, "budget": f"{flops:g}", "seed": run_seed,
                    "budget_flops": flops, "flops_train": flops,
                    "loss_nats": 3.0 + gap * number + 0.01 * random.standard_normal(),
                })  # fmt: skip
    return Runs(frame=pd.DataFrame(made))


def test_resampled_pairs_are_called_at_their_level() -> None:
    found = resampled_pairs(runs(), [LOSS], num_seeds=3, num_pairs=80)
    shares = {one.at: one.share for one in found.calls}
    assert set(shares) == {"largest", "mean", "verdict"}
    # Four binomial standard errors around 5 %; in full: `python -m benchmarks.null_test`.
    assert 0.0 < shares["largest"] < 0.15
    assert 0.0 < shares["mean"] < 0.15
    assert shares["verdict"] <= min(shares["largest"], shares["mean"])
    assert "of 80 called" in found.summary()
    assert list(found.to_frame()["pairs"]) == [80] * 3


def test_a_sequence_of_readings_is_called_at_its_level() -> None:
    found = resampled_pairs(runs(seed=1), [LOSS], readings=(2, 4, 6), num_pairs=30)
    assert all(one.share < 0.21 for one in found.calls if "verdict" not in one.at)


def test_a_true_difference_is_called() -> None:
    tables = [runs(gap=0.05, names=("one", "two"), num_seeds=3, seed=seed) for seed in range(8)]
    found = calls_of(((table, "two", "one") for table in tables), [LOSS])
    assert all(one.share > 0.6 and one.sides[0] == 0 for one in found.calls)


def test_too_few_seeds_are_refused() -> None:
    with pytest.raises(FitError, match="4 seeds at every budget, and 2 families of 3 need 6"):
        resampled_pairs(runs(num_seeds=4), [LOSS])
