"""Where the noise of runs is taken from: this sweep's results, then those of one like it, then the shipped tables."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from memscale.config.noise import NoiseRow
from memscale.launch.noise import known_noise
from memscale.planning.comparison import LOSS, RECALL
from memscale.records.layout import SweepPaths
from tests.planning.shipped import BY_FLOPS, shipped

SWEEP = shipped("memory_vs_moe", *BY_FLOPS)
SHIPPED = [
    NoiseRow(scale="laptop", measure="loss_nats", std=0.9, basis="assumed", origin="a guess"),
    NoiseRow(scale="laptop", data="facts_and_code", measure="loss_nats", std=0.8, basis="assumed", origin="nearer"),
    NoiseRow(scale="node", measure="loss_nats", std=0.7, basis="assumed", origin="another scale"),
    NoiseRow(scale="laptop", measure="score_facts_recall_acc", std=0.6, basis="assumed", origin="a guess"),
]


def write_results(folder: Path, std: float, *, num_seeds: int = 3, stage: str = "compare", **keys: object) -> None:
    """A results table of three families at two budgets, and rows that must not count."""
    random = np.random.default_rng(0)
    told = {"scale": "laptop", "status": "done", "sequence_length": 128, "batch_tokens": 512, "stage": stage,
            "loss_nats_facts": 1.0, "loss_nats_facts_stderr": 0.1, "loss_nats_python_stdlib": 2.0,
            "learning_rate": 0.01, "table_learning_rate": "", **keys}  # fmt: skip
    rows = [
        {**told, "series": series, "budget": budget, "seed": seed, "loss_nats": 2 + std * random.normal()}
        for series in ("dense", "moe", "memory_plus") for budget in ("4e11", "1.7e12") for seed in range(num_seeds)
    ]  # fmt: skip
    rows += [{**rows[0], "status": "failed", "loss_nats": ""}, {**rows[0], "scale": "node", "loss_nats": 99}]
    folder.mkdir(parents=True)
    with open(folder / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def known(root: Path) -> dict[str, NoiseRow]:
    rows = known_noise(SWEEP, (LOSS, RECALL), SweepPaths(root / "mine"), SHIPPED)
    return {row.measure: row for row in reversed(rows)}


def test_the_shipped_tables_count_where_nothing_was_run(tmp_path: Path) -> None:
    found = known(tmp_path)
    assert (found["loss_nats"].std, found["loss_nats"].basis) == (0.8, "assumed")
    assert found["score_facts_recall_acc"].std == 0.6


@pytest.mark.parametrize("stage", ["compare", "tune-2"])
def test_runs_of_this_sweep_come_first_and_of_others_the_best_known(tmp_path: Path, stage: str) -> None:
    write_results(tmp_path / "other", 0.05, stage=stage)
    write_results(tmp_path / "better", 0.02, num_seeds=5, stage=stage)
    found = known(tmp_path)["loss_nats"]
    assert (found.basis, found.degrees) == ("measured", 24)
    assert found.std == pytest.approx(0.02, rel=0.4)
    assert "better" in found.origin
    assert (found.seed_share, found.series_share) == (0, 0) or stage == "compare"
    write_results(tmp_path / "mine", 0.1, stage=stage)
    found = known(tmp_path)["loss_nats"]
    assert found.std == pytest.approx(0.1, rel=0.4)
    assert "this sweep" in found.origin
    assert known(tmp_path)["score_facts_recall_acc"].std == 0.6  # of which these tables know nothing


@pytest.mark.parametrize(
    "keys",
    [{"scale": "node"}, {"batch_tokens": 1024}, {"sequence_length": 64}, {"loss_nats_python_stdlib": ""},
     {"loss_nats_text": 1.0}, {"num_seeds": 1}],
)  # fmt: skip
def test_runs_trained_otherwise_or_without_replicates_do_not_count(tmp_path: Path, keys: dict[str, object]) -> None:
    write_results(tmp_path / "other", 0.05, **keys)
    assert known(tmp_path)["loss_nats"].std == 0.8


def test_a_table_that_cannot_be_read_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "results.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "results.csv").write_text("stage,series\ncompare\n")
    assert known(tmp_path)["loss_nats"].std == 0.8
