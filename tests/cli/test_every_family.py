"""Every family through the real command line, without tuning: planned, trained, evaluated, tabulated, reported."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from memscale.config.architecture import FAMILIES
from tests.sweeps import NAME, memscale, small_sweep, write_text

OTHERS = tuple(
    f"+family@families.{family}={family}"
    for family in ("pkm", "memory", "peer", "ngram", "token_table", "looped", "hash_moe")
)
MIXTURE = "{parts: {moe: {num_experts: 3, expert_hidden: 20}, ngram: {num_heads: 2, rows_per_head: 40}}}"
MORE = (
    *OTHERS,
    "launcher.table_memory=file",
    "recipe.learning_rate={rule: fixed, value: 0.01, table_factor: 2}",
    "matching.equal=[tokens]",
    "matching.sparse_equal=null",
    f"families.mixture={MIXTURE}",
    "families.ngram.rows_per_head=50",
    "families.token_table.row_width=8",
    "families.hash_moe.num_experts=4",
    "families.hash_moe.expert_hidden=24",
    "grid=[{families: [dense, pkm, memory, peer, memory_plus, ngram, token_table, mixture, looped, hash_moe]}, "
    "{families: [moe], product: {shared_experts: [0, 1]}}]",
    "families.moe={num_experts: 4, experts_per_token: 1, expert_hidden: 24, routing: expert_choice}",
    *(f"families.{family}.num_slots=256" for family in ("pkm", "memory", "peer", "memory_plus")),
    *(f"families.{family}.knn=4" for family in ("pkm", "memory", "peer")),
)


@pytest.mark.slow
def test_a_sweep_of_every_family_ends_with_a_row_for_each(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    sweep = small_sweep(write_text(tmp_path), flops="[4e9]", seeds="[0]", more=MORE)
    said = memscale("sweep", NAME, *sweep, runs=runs).stdout
    assert "all 12 runs done" in said
    with open(runs / NAME / "results.csv", newline="") as file:
        rows = {row["series"]: row for row in csv.DictReader(file)}
    assert {row["family"] for row in rows.values()} == set(FAMILIES)
    assert {row["status"] for row in rows.values()} == {"done"}
    assert {row["stage"] for row in rows.values()} == {"compare"}
    assert set(rows) - set(FAMILIES) == {"moe shared_experts=0", "moe shared_experts=1", "hash_moe"}
    experts = rows["moe shared_experts=1"]
    assert (experts["routing"], experts["routing_in_evaluation"]) == ("expert_choice", "token_choice, top 1")
    assert rows["hash_moe"]["routing_in_evaluation"] == "hash, top 1"
    seeing = {series for series, row in rows.items() if row["training_sees_later_tokens"] == "1"}
    assert seeing == {"moe shared_experts=0", "moe shared_experts=1", "pkm", "peer"}
    assert {series for series, row in rows.items() if row["num_slots"] == "256"} == {
        "pkm", "memory", "memory_plus", "peer",
    }  # fmt: skip
    assert int(rows["ngram"]["num_slots"]) == 16 * 2 * 51 + 32 * 31  # sixteen reads in two layers, sizes two apart
    assert (rows["token_table"]["num_slots"], rows["mixture"]["num_experts"]) == ("", "3")
    assert {row["learning_rate"] for row in rows.values()} == {"0.01"}
    assert rows["peer"]["table_learning_rate"] == "0.02"
    report = (runs / NAME / "report.html").read_text()
    for name in ("PEER", "Memory+", "MoE", "Dense", "N-gram", "Token table", "Mixture", "Looped"):
        assert name in report
    assert "later tokens can change earlier ones" in report
    assert (rows["looped"]["depth"], rows["looped"]["recurrences"]) == ("2", "2")
    assert (rows["dense"]["depth"], rows["dense"]["recurrences"], rows["dense"]["params_recurrent"]) == ("2", "1", "0")
    assert "Looped models share layers" in report
    for row in rows.values():
        (log,) = (runs / NAME).glob(f"*-{row['run_id']}/attempts/1/log.txt")
        assert ("memory kernels for float32 on cpu: numba" in log.read_text()) == (row["table_learning_rate"] != "")
