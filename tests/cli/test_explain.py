"""`memscale plan --explain RUN`: parts that add up, in JSON and for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memscale.cli.main import main

AT_SCALE = ("memory_layers_at_scale", "scale=paper", "launcher=local")


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSCALE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def _explained(capsys: pytest.CaptureFixture[str], run: str, *sweep: str) -> dict[str, Any]:
    assert main(["plan", *sweep, "--explain", run, "--json"]) == 0
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


@pytest.mark.parametrize("series", ["dense", "moe", "peer", "memory", "memory_plus-num_slots1048576"])
def test_the_parts_add_up_to_the_run(series: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *AT_SCALE, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    row = next(row for row in rows if row["name"].startswith(f"{series}-1.3b"))
    told = _explained(capsys, row["name"], *AT_SCALE)
    assert told["run_id"] == row["run_id"]
    for key, total in (
        ("params", row["params_total"]),
        ("params_active", row["params_active"]),
        ("flops_per_token_forward", row["flops_per_token_forward"]),
        ("decode_bytes", told["bytes"]["decode_bytes"]),
        ("share_of_flops", 1.0),
    ):
        assert sum(part[key] for part in told["components"]) == pytest.approx(total)
    assert told["totals"]["flops_train"] == pytest.approx(row["flops_train"])
    ours = 3 * row["flops_per_token_forward"]
    six_n = told["conventions"]["six_n_total"]
    assert six_n["flops_per_token_train"] == 6 * row["params_total"]
    assert six_n["over_ours"] == pytest.approx(6 * row["params_total"] / ours)
    alone, whole, optimizer, full = told["training_memory"]["per_gpu"]
    # Two moments a parameter, and two step numbers a row, which is as wide as the model: 2,048.
    state = 8 * row["params_total"] + 8 * row["params_table"] / 2048
    assert alone["optimizer"] == whole["optimizer"] == state
    assert optimizer["optimizer"] == pytest.approx(state / 8)
    assert full["weights"] == pytest.approx(row["params_total"] / 2)
    for one in (alone, whole, optimizer, full):
        parts = sum(one[key] for key in ("weights", "gradients", "optimizer", "activations"))
        assert one["total"] == pytest.approx(parts)


def test_a_person_reads_parts_conventions_and_matching(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "memory_vs_moe", "scale=laptop", "launcher=local", "--explain", "moe-d24-s0"]) == 0
    page = capsys.readouterr().out
    for word in ("router", "experts", "lm_head", "6 N, all parameters", "PaLM", "sharding full", "read per decoded"):
        assert word in page
    assert "held: FLOPs per token +0." in page or "held: FLOPs per token -0." in page
    told = _explained(capsys, "moe-d24-s0", "memory_vs_moe", "scale=laptop", "launcher=local")
    assert told["matched"]["mismatch"] == {"flops_per_token": pytest.approx(told["matched"]["flops_mismatch"])}
    assert abs(told["matched"]["params_mismatch"]) <= told["matched"]["tolerance"]


def test_experts_that_choose_cost_otherwise_in_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    """6 experts take round(4096 / 6) = 683 tokens each: 1.0005 experts a token in training, one in evaluation."""
    totals = _explained(capsys, "moe-720m-s0", *AT_SCALE)["totals"]
    expert = 6 * 1536 * 4096 * 22
    difference = totals["flops_per_token_forward"] - totals["flops_per_token_evaluation"]
    assert difference == pytest.approx((683 * 6 / 4096 - 1) * expert)
    assert main(["plan", *AT_SCALE, "--explain", "moe-720m-s0"]) == 0
    assert "forward in evaluation, where each token chooses" in capsys.readouterr().out
    dense = _explained(capsys, "dense-720m-s0", *AT_SCALE)["totals"]
    assert dense["flops_per_token_evaluation"] == dense["flops_per_token_forward"]


def test_a_looped_model_says_how_it_is_looped_and_what_is_not_equal(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ("memory_vs_moe", "scale=node", "launcher=local", "+family@families.looped=looped")
    assert main(["plan", *sweep, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    (low, high) = content["matched"]["looped_params_over_dense"]["looped"]
    assert 0.5 < low < high < 0.95
    rows = [row for row in content["runs"] if row["family"] == "looped" and row["stage"] == "compare"]
    assert {row["params_mismatch"] for row in rows} == {None}
    assert all(abs(row["flops_mismatch"]) < 0.005 for row in rows)
    name = next(row["name"] for row in rows)
    told = _explained(capsys, name, *sweep)
    assert [part["name"] for part in told["components"]][3:5] == ["ffn", "injection"]
    assert told["architecture"]["loop"]["recurrences"] == 2
    dense = _explained(capsys, name.replace("looped", "dense"), *sweep)
    assert "loop" not in dense["architecture"]
    assert told["bytes"]["kv_cache_bytes"] == dense["bytes"]["kv_cache_bytes"]
    assert main(["plan", *sweep, "--explain", name]) == 0
    page = capsys.readouterr().out
    assert (
        "loop: prelude 1, recurrent 3, coda 1, recurrences 2, injection concatenate; a token passes through 8" in page
    )
    assert "of the dense models', not held, as layers are shared" in page
    assert main(["plan", *sweep]) == 0
    assert "not held  total parameters of looped: 0." in capsys.readouterr().out


def test_an_unknown_run_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "memory_vs_moe", "scale=laptop", "launcher=local", "--explain", "moe-d24-s7"]) == 2
    said = capsys.readouterr().err
    assert "no run 'moe-d24-s7'" in said
    assert "Did you mean 'moe-d24-s" in said


def test_a_run_says_which_facts_it_reads_and_how_often(capsys: pytest.CaptureFixture[str]) -> None:
    budget = "{name: small, exposures: 5, bits_per_parameter: 0.5, d_model: 48, num_layers: 4, num_heads: 3}"
    sweep = ("memory_vs_moe", "scale=laptop", "launcher=local", f"scale.budgets=[{budget}]")
    told = _explained(capsys, "dense-small-s0", *sweep)
    dense = next(facts for facts in told["facts"] if facts["source"] == "dense_facts")
    assert dense["bits"] == pytest.approx(0.5 * told["totals"]["params_non_embedding"], rel=0.01)
    assert dense["exposures"] == pytest.approx(5, rel=0.01)
    assert main(["plan", *sweep, "--explain", "dense-small-s0"]) == 0
    assert "0.5 for each non-embedding parameter of the budget's dense model, each read 5" in capsys.readouterr().out
