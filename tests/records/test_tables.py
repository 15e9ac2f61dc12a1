"""Plan files, run files and the results table: what was written comes back."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from memscale.config.data import DenseFacts
from memscale.config.load import load_sweep
from memscale.config.run import Digests
from memscale.errors import RecordError
from memscale.launch.convert import choices_of, plan_file, run_file, selections_of
from memscale.planning.budgets import size_knowledge
from memscale.planning.plan import Plan, make_plan
from memscale.planning.tuning import is_tuning
from memscale.records.atomic import write_json
from memscale.records.inspection import inspect
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.plan_file import read_plan_file, write_plan_file
from memscale.records.results import read_row, with_recurrences, write_table
from memscale.records.run_file import read_run_file, write_run_file
from tests.planning.shipped import BY_FLOPS, opened

SWEEPS = Path(__file__).parents[2] / "sweeps"


@pytest.fixture(scope="module")
def plan() -> Plan:
    sweep = size_knowledge(load_sweep("memory_vs_moe", ["launcher=local", *BY_FLOPS], folder=SWEEPS).sweep)
    plan = make_plan(sweep, Digests(data="d", tokenizer="t", evaluation="e"))
    return opened(plan, lambda number, _: 2.0 + number % 5)


def test_a_plan_comes_back_with_its_choices(plan: Plan, tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    assert read_plan_file(paths) is None
    written = plan_file(plan, tmp_path)
    write_plan_file(paths, written)
    assert read_plan_file(paths) == read_plan_file(paths, plan.plan_hash) == written
    assert choices_of(written) == plan.choices
    assert selections_of(written) == plan.selections
    assert selections_of(written) == plan.selections
    paths.plan(plan.plan_hash).write_text('{"format": 1}')
    with pytest.raises(RecordError, match="cannot be read back"):
        read_plan_file(paths)


def test_every_run_comes_back_with_its_identity(plan: Plan, tmp_path: Path) -> None:
    for planned in plan.runs:
        write_run_file(tmp_path / "run.json", run_file(plan, planned))
        read = read_run_file(tmp_path / "run.json")
        assert read.run == planned.run
        assert read.counts.params_total == planned.counts.params_total
        assert (read.tasks == ()) == is_tuning(planned.stage)


@pytest.mark.parametrize("format", [1, 2])
def test_files_of_former_formats_are_read_as_if_they_were_of_this_one(format: int, plan: Plan, tmp_path: Path) -> None:
    old = (
        {"flops_mismatch": "flops_off", "params_mismatch": "params_off", "family_name": "family"} if format == 1 else {}
    )
    folders = re.compile(r'"data_folders": \[\s*"(\w+)"\s*\]')

    def downgrade(path: Path) -> None:
        text = re.sub(r' "digest": "\w+",\n', "", path.read_text()).replace('"format": 3', f'"format": {format}')
        text = folders.sub(r'"data_folder": "/runs/data/\1"', text)
        text = re.sub(r' "dense_params_non_embedding": \w+,\n', "", text)
        for new, name in old.items():
            text = text.replace(f'"{new}"', f'"{name}"')
        plain = json.loads(text)
        plain.pop("selections", None)
        for trial in (trial for choice in plain.get("choices", ()) for trial in choice["trials"]):
            del trial["stage"], trial["seed"]
        path.write_text(json.dumps(plain))

    paths, written = SweepPaths(tmp_path), plan_file(plan, tmp_path)
    write_plan_file(paths, written)
    one = run_file(plan, plan.runs[0])
    write_run_file(tmp_path / "run.json", one)
    for path in (paths.plan(plan.plan_hash), paths.current_plan, tmp_path / "run.json"):
        downgrade(path)
    text = paths.plan(plan.plan_hash).read_text()
    assert ("flops_mismatch" in text, "data_folders" in text) == (format == 2, False)
    found = read_plan_file(paths)
    assert found is not None
    assert [paths.data(one) for one in found.data_folders] == [paths.data(one) for one in written.data_folders]
    assert found.runs == written.runs
    rates = [
        [
            (
                choice.family_name,
                choice.learning_rate,
                choice.table_learning_rate,
                choice.at_edge,
                [(trial.learning_rate, trial.loss) for trial in choice.trials],
            )
            for choice in one.choices
        ]
        for one in (found, written)
    ]
    assert rates[0] == rates[1]
    assert read_run_file(tmp_path / "run.json") == replace(one, dense_params_non_embedding=None)


def test_the_table_has_done_and_failed_runs_with_all_their_columns(plan: Plan, tmp_path: Path) -> None:
    done, failed = plan.stage("compare")[0], plan.stage("compare")[-1]
    rows = []
    for planned, state in ((done, "done"), (failed, "failed")):
        paths = RunPaths(tmp_path / planned.name)
        write_run_file(paths.run, run_file(plan, planned))
        if state == "done":
            write_json(paths.result, _result(), format=1)
        rows.append(read_row(paths, state, inspect(paths).result))
    write_table(SweepPaths(tmp_path), rows)
    parquet = pq.read_table(tmp_path / "results.parquet").to_pylist()
    with open(tmp_path / "results.csv", newline="") as lines:
        text = list(csv.DictReader(lines))
    for row, as_text in zip(parquet, text, strict=True):
        assert {name: "" if value is None else str(value) for name, value in row.items()} == as_text
    first, second = parquet
    assert (first["status"], second["status"]) == ("done", "failed")
    assert first["loss_nats"] == 1.5
    assert first["score_facts_recall_acc_stderr"] == 0.02
    assert second["loss_nats"] is None
    assert first["flops_train"] == 3 * first["flops_per_token_forward"] * first["tokens"]
    assert first["flops_train_6n_total"] == 6 * first["params_total"] * first["tokens"]
    assert first["recall_chance"] == 1 / 8
    assert first["knowledge_bits"] == 154 * 36


def test_dense_runs_beside_looped_ones_have_the_columns_of_their_law(tmp_path: Path) -> None:
    given = ["launcher=local", *BY_FLOPS, "+family@families.looped=looped"]
    sweep = size_knowledge(load_sweep("memory_vs_moe", given, folder=SWEEPS).sweep)
    plan = opened(
        make_plan(sweep, Digests(data="d", tokenizer="t", evaluation="e")), lambda number, _: 2.0 + number % 5
    )
    rows = []
    for planned in plan.stage("compare"):
        paths = RunPaths(tmp_path / planned.name)
        write_run_file(paths.run, run_file(plan, planned))
        rows.append(read_row(paths, "failed", None))
    assert "recurrences" not in rows[0]
    for row in with_recurrences(rows):
        if row["family"] == "dense":
            assert (row["recurrences"], row["depth"], row["params_recurrent"]) == (1, row["num_layers"], 0)
            assert row["params_once"] == row["params_non_embedding"]
        elif row["family"] == "looped":
            assert (row["recurrences"], row["depth"], row["num_layers"]) == (2, 4, 3)
            assert row["params_once"] + row["params_recurrent"] == row["params_non_embedding"]
            d = row["d_model"]
            assert row["params_recurrent"] > 2 * d * d + 4 * d * d  # the injection, the attention and an FFN
        else:
            assert "recurrences" not in row
    others = [row for row in rows if row["family"] != "looped"]
    assert with_recurrences([dict(row) for row in others if "recurrences" not in row])[0].get("depth") is None


def test_bits_are_counted_from_the_nats_of_the_facts_asked(plan: Plan, tmp_path: Path) -> None:
    """2,000 of 4,000 facts of 12 bits; the mean nats are known as well as a sample of half of them allows."""
    facts = DenseFacts(name="dense", num_facts=4_000, num_eval_facts=2_000, value_words=2)
    file = run_file(plan, plan.runs[0])
    paths = RunPaths(tmp_path / plan.runs[0].name)
    write_run_file(paths.run, replace(file, data=replace(file.data, sources=(facts,))))
    assert "bits_stored" not in read_row(paths, "failed", None)
    asked = {"recall": {"value": 0.4, "stderr": 0.01, "num_samples": 2_000}}
    for stderr in (0.02, None):
        asked["nats"] = {"value": 4 * math.log(2), "stderr": stderr, "num_samples": 2_000}
        write_json(paths.result, {**_result(), "scores": {"dense_facts": asked}}, format=1)
        row = read_row(paths, "done", inspect(paths).result)
        assert row["bits_offered"] == 48_000
        assert row["bits_stored"] == pytest.approx(4_000 * 8)
        assert row["bits_stored_per_parameter"] == pytest.approx(32_000 / file.dense_params_non_embedding)
        assert row["score_dense_facts_recall"] == 0.4
    assert "bits_stored_stderr" not in row
    asked["nats"]["stderr"] = 0.02
    write_json(paths.result, {**_result(), "scores": {"dense_facts": asked}}, format=1)
    row = read_row(paths, "done", inspect(paths).result)
    assert row["bits_stored_stderr"] == pytest.approx(4_000 * 0.02 / math.log(2) * math.sqrt(0.5))


def _result() -> dict[str, object]:
    return {
        "status": "done",
        "losses": {
            "facts": {"nats_per_token": 1.0, "nats_stderr": 0.1, "bits_per_byte": 0.9},
            "mixture": {"nats_per_token": 1.5},
        },
        "scores": {"facts_recall": {"acc": {"value": 0.5, "stderr": 0.02, "num_samples": 400}}},
        "usage": {"memory_kl": 0.2},
        "timings": {"train_seconds": 9.0, "tokens_per_second": 1.0, "evaluation_seconds": 1.0},
        "peak_memory_bytes": 1,
    }
