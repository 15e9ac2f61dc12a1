"""What a table with rounds of tuning says of each family's choice: the best mean, its lead, and what it cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.sweep.learning_rates import LearningRateChoice, learning_rate_choices, tuning_cost
from analysis.tables.results import Results, read_results
from tests.analysis.synthetic_results import Row, Truth, rows, write

LAST = {0.005: (3.10, 3.00), 0.01: (3.12, 3.02), 0.02: (3.20, 3.14)}
"""Losses of the last round by rate, for two seeds."""


def table(*, last: dict[float, tuple[float | None, float]] | None = None) -> list[Row]:
    """A sweep whose dense family was tuned in two rounds, with an extension; round 1 favours another rate by luck."""
    compared = [row for row in rows(Truth(seeds=(0, 1))) if row["stage"] == "compare"]
    first = next(row for row in compared if row["family"] == "dense")

    def tuned(stage: str, rate: float, seed: int, loss: float | None) -> Row:
        name = f"{stage}-{rate}-{seed}"
        ended = {"loss_nats": "", "status": "diverged"} if loss is None else {"loss_nats": loss}
        return {**first, "stage": stage, "name": name, "run_id": name, "seed": seed, "learning_rate": rate, **ended}

    found = [tuned("tune", rate, 1000, loss) for rate, loss in ((0.005, 3.2), (0.01, 3.0), (0.02, 2.9))]
    found += [tuned("tune-extended", 0.04, 1000, None)]
    found += [
        tuned("tune-2", rate, 1001 + at, loss) for rate, pair in (last or LAST).items() for at, loss in enumerate(pair)
    ]
    return found + [{**row, "learning_rate": 0.005} if row["family"] == "dense" else row for row in compared]


def read(tmp_path: Path, found: list[Row]) -> Results:
    return read_results(write(tmp_path / "t.csv", found))


def dense(results: Results) -> LearningRateChoice:
    return next(one for one in learning_rate_choices(results) if one.family == "dense")


def test_the_best_is_the_least_mean_of_the_last_round_and_its_lead_has_its_standard_error(tmp_path: Path) -> None:
    one = dense(read(tmp_path, table()))
    assert (one.learning_rate, one.note, one.num_rounds, one.diverged) == (0.005, "", 2, 1)
    assert one.best is not None
    assert (one.best.learning_rate, one.best.loss) == (0.005, pytest.approx(3.05))
    assert one.edges == ("learning rate at the lowest tried",)
    assert one.lead is not None
    assert (one.lead.nats, one.lead.num_seeds, one.lead.num_rates) == (pytest.approx(0.02), 2, 3)
    # By hand: the second seed is lower by .1, .1 and .06; what is left of the three differences decides.
    differences = np.array([0.10, 0.10, 0.06])
    variance = ((differences - differences.mean()) ** 2).sum() / 2 / 2  # of one run, seeds and rates taken out
    assert one.lead.standard_error == pytest.approx(np.sqrt(2 * variance / 2))


def test_rates_that_diverged_for_one_seed_are_not_the_best(tmp_path: Path) -> None:
    one = dense(read(tmp_path, table(last={**LAST, 0.005: (None, 1.0)})))
    assert one.best is not None
    assert one.best.learning_rate == 0.01
    assert one.note == "not the rate with the lowest tuning loss"
    alone = dense(read(tmp_path, table(last={0.005: (None, 1.0), 0.01: (3.0, 3.0)})))
    assert alone.lead is None


def test_tuning_is_no_part_of_the_comparison_and_its_cost_is_told(tmp_path: Path) -> None:
    found = table()
    results = read(tmp_path, found)
    tuned = [row for row in found if row["stage"] != "compare"]
    assert len(results.tune) == len(tuned) == 10
    assert len(results.compare) == len(found) - 10
    cost = tuning_cost(results)
    assert cost is not None
    flops = [float(str(row["flops_train"])) for row in found]
    assert cost.share_of_flops == pytest.approx(sum(flops[:10]) / sum(flops))
    assert tuning_cost(read(tmp_path, [row for row in found if row["stage"] == "compare"])) is None
