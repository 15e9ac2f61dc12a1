"""What MLflow holds after a sync, recounted from the run files and from the database without MLflow."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path

import pytest
import sweep_files
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.validation import _validate_metric_name

from memscale.errors import RecordError
from memscale.records.layout import RunPaths
from memscale.records.metrics import MetricsLog, cut_back
from memscale.tracking import folder as folders
from memscale.tracking import mirror
from memscale.tracking.mirror import Synced, sync


def mirrored_runs(synced: Synced) -> tuple[Run, dict[str, Run]]:
    """The parent, and the children by name."""
    client = MlflowClient(synced.uri)
    assert synced.experiment_id is not None
    found = client.search_runs([synced.experiment_id])
    children = {run.info.run_name: run for run in found if run.data.tags["memscale.role"] == "run"}
    (parent,) = [run for run in found if run.data.tags["memscale.role"] == "sweep"]
    assert len(found) == 1 + len(children)
    return parent, children


def test_every_point_of_the_files_stands_in_mlflow_once(runs_root: Path) -> None:
    runs = sweep_files.finished_sweep(runs_root / "demo", num_runs=3, num_steps=250)  # more than one batch each
    synced = sync(runs_root / "demo")
    expected = []
    for paths in runs:
        run_id = json.loads(paths.run.read_text())["run_id"]
        lines = [json.loads(line) for line in paths.metrics.read_text().splitlines()]
        expected += [(run_id, f"{line['split']}/{line['name']}", line["step"]) for line in lines]
        expected += [(run_id, "progress/tokens", step) for step in {line["step"] for line in lines}]
    held = sweep_files.points(runs_root / "mlflow.db")
    finals = ("loss/", "score/", "usage/", "cost/")
    assert [point for point in held if not point[1].startswith(finals)] == sorted(expected)
    assert synced.num_points == len(held)
    assert synced.num_runs == 3


def test_values_timestamps_and_finals_are_those_of_the_files(runs_root: Path) -> None:
    (paths,) = sweep_files.finished_sweep(runs_root / "demo", num_runs=1)
    synced = sync(runs_root / "demo")
    _, children = mirrored_runs(synced)
    (run,) = children.values()
    lines = [json.loads(line) for line in paths.metrics.read_text().splitlines()]
    wanted = [(line["step"], line["value"], round(line["time"] * 1000)) for line in lines if line["name"] == "loss"]
    history = MlflowClient(synced.uri).get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value, point.timestamp) for point in history] == wanted
    metrics = run.data.metrics
    assert metrics["loss/code/bits_per_byte"] == 1.5
    assert metrics["loss/mixture/nats_per_token"] == 3.0
    assert metrics["score/facts_recall/acc"] == 0.5
    assert metrics["score/facts_recall/acc_stderr"] == 0.02
    assert "score/facts_recall/exact_match_stderr" not in metrics
    assert metrics["usage/slots_used"] == 0.9
    assert metrics["cost/train_seconds"] == 12.0


def test_a_second_sync_changes_nothing_at_all(runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = runs_root / "demo"
    sweep_files.finished_sweep(root)
    running = sweep_files.add_run(root, seed=9)
    sweep_files.start(running)
    sweep_files.train(running, range(1, 30), checkpoint=20)
    (root / "report.html").write_text("<p>answer</p>")
    sync(root)
    rows = sweep_files.rows(runs_root / "mlflow.db")
    files = {path: path.stat().st_mtime_ns for path in (runs_root / "mlartifacts").rglob("*")}
    for write in sweep_files.WRITES:
        monkeypatch.setattr(MlflowClient, write, lambda *_, **__: pytest.fail("wrote without news"))
    again = sync(root)
    assert again.num_points == 0
    assert again.num_runs == 4
    assert sweep_files.rows(runs_root / "mlflow.db") == rows
    assert {path: path.stat().st_mtime_ns for path in (runs_root / "mlartifacts").rglob("*")} == files


def test_steps_beyond_the_last_checkpoint_never_arrive(runs_root: Path) -> None:
    root = runs_root / "demo"
    paths = sweep_files.add_run(root)
    sweep_files.start(paths)
    sweep_files.train(paths, range(1, 6))
    assert sync(root).num_points == 0
    sweep_files.train(paths, range(6, 31), checkpoint=20)
    sync(root)
    assert steps_held(runs_root) == list(range(1, 21))
    cut_back(paths.metrics, 20)  # killed and resumed: steps 21 to 30 were never to be seen
    sweep_files.train(paths, range(21, 41), checkpoint=40, shift=3600)
    sync(root)
    sweep_files.finish(paths, steps=40)
    sync(root)
    held = sweep_files.points(runs_root / "mlflow.db")
    assert steps_held(runs_root) == list(range(1, 41))
    assert len(held) == len(set(held))


def test_steps_trained_again_after_a_corrupt_checkpoint_keep_their_first_values(runs_root: Path) -> None:
    root = runs_root / "demo"
    paths = sweep_files.add_run(root)
    sweep_files.start(paths)
    sweep_files.train(paths, range(1, 41), checkpoint=40)
    sync(root)
    cut_back(paths.metrics, 20)
    sweep_files.train(paths, range(21, 61), checkpoint=60, shift=3600)
    sync(root)
    held = sweep_files.points(runs_root / "mlflow.db")
    assert len(held) == len(set(held))
    assert steps_held(runs_root) == list(range(1, 61))


def steps_held(runs_root: Path) -> list[int]:
    return [step for _, name, step in sweep_files.points(runs_root / "mlflow.db") if name == "train/loss"]


def test_a_deleted_database_is_written_again(runs_root: Path, empty_database: Path) -> None:
    root = runs_root / "demo"
    sweep_files.finished_sweep(root)
    first = sync(root).num_points
    held = sweep_files.points(runs_root / "mlflow.db")
    elsewhere = runs_root / "other.db"
    elsewhere.write_bytes(empty_database.read_bytes())
    assert sync(root, uri=f"sqlite:///{elsewhere}").num_points == first
    assert sweep_files.points(elsewhere) == held


def test_the_parent_carries_question_counts_and_plan_hash(runs_root: Path) -> None:
    root = runs_root / "demo"
    sweep_files.finished_sweep(root, num_runs=2)
    sweep_files.add_run(root, seed=7)
    (root / "plan.json").write_text(json.dumps({"format": 1, "plan_hash": "7f3a9c21d0e4"}))
    parent, children = mirrored_runs(sync(root))
    tags = parent.data.tags
    assert tags["memscale.question"] == sweep_files.QUESTION
    assert tags["memscale.plan_hash"] == "7f3a9c21d0e4"
    assert (tags["memscale.runs_done"], tags["memscale.runs_planned"]) == ("2", "1")
    assert sweep_files.QUESTION in tags["mlflow.note.content"]
    assert len(children) == 2  # the planned run has no history to show yet
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}


def test_children_carry_params_tags_dataset_and_files(runs_root: Path) -> None:
    (paths,) = sweep_files.finished_sweep(runs_root / "demo", num_runs=1)
    synced = sync(runs_root / "demo")
    _, children = mirrored_runs(synced)
    (run,) = children.values()
    written = json.loads(paths.run.read_text())
    assert run.data.tags["memscale.run_id"] == written["run_id"]
    assert run.data.tags["memscale.family"] == "dense"
    assert float(run.data.params["optimizer.learning_rate"]) == 1e-3
    assert int(run.data.params["architecture.d_model"]) == 16
    assert int(run.data.params["planned.params_total"]) == 1_000_000
    assert "architecture.moe" not in run.data.params
    (dataset_input,) = run.inputs.dataset_inputs
    assert (dataset_input.dataset.name, dataset_input.dataset.digest) == ("stdlib", "d" * 36)
    names = {entry.path for entry in MlflowClient(synced.uri).list_artifacts(run.info.run_id)}
    assert names == {"run.json", "provenance.json", "result.json"}


def test_figures_are_sent_again_only_when_changed(runs_root: Path) -> None:
    root = runs_root / "demo"
    sweep_files.finished_sweep(root, num_runs=1)
    (root / "figures").mkdir()
    (root / "figures" / "loss.svg").write_text("<svg/>")
    parent, _ = mirrored_runs(sync(root))
    kept = runs_root / "mlartifacts" / "demo" / parent.info.run_id / "artifacts" / "figures" / "loss.svg"
    before = kept.stat().st_mtime_ns
    sync(root)
    assert kept.stat().st_mtime_ns == before
    (root / "figures" / "loss.svg").write_text("<svg>new</svg>")
    sync(root)
    assert kept.read_text() == "<svg>new</svg>"


def test_nan_and_infinity_become_nan_and_are_named(runs_root: Path) -> None:
    root = runs_root / "demo"
    paths = sweep_files.add_run(root)
    sweep_files.start(paths)
    log = MetricsLog(paths.metrics, paths.run_id or "")
    for step, value in enumerate([1.0, math.inf, -math.inf, math.nan]):
        log.add(step, step, "train", loss=value)
    log.close()
    sweep_files.finish(paths, steps=4, status="diverged")
    synced = sync(root)
    _, children = mirrored_runs(synced)
    (run,) = children.values()
    history = MlflowClient(synced.uri).get_metric_history(run.info.run_id, "train/loss")
    assert [math.isnan(point.value) for point in history] == [False, True, True, True]
    assert run.data.tags["memscale.non_finite"] == "train/loss at step 1"
    assert run.info.status == "FAILED"
    with sqlite3.connect(runs_root / "mlflow.db") as connection:
        assert connection.execute("SELECT count(*) FROM metrics WHERE abs(value) > 1e300").fetchone() == (0,)
    assert sync(root).num_points == 0


def test_runs_on_further_pages_are_found(runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_RUNS_PER_PAGE", 2)
    sweep_files.finished_sweep(runs_root / "demo", num_runs=5)
    first = sync(runs_root / "demo")
    assert sync(runs_root / "demo").num_points == 0
    assert len(mirrored_runs(first)[1]) == 5


@pytest.mark.parametrize("name", ["run.json", "result.json", "metrics.jsonl"])
def test_a_damaged_run_is_named_and_the_others_are_mirrored(runs_root: Path, name: str) -> None:
    runs = sweep_files.finished_sweep(runs_root / "demo")
    (runs[1].root / name).write_text("{}\n")
    synced = sync(runs_root / "demo")
    (problem,) = synced.problems
    assert str(runs[1].root) in problem
    whole = {json.loads(paths.run.read_text())["run_id"] for paths in (runs[0], runs[2])}
    assert {run_id for run_id, _, _ in sweep_files.points(runs_root / "mlflow.db")} == whole
    (shown,) = [run for run in mirrored_runs(synced)[1].values() if run.data.tags["memscale.state"] == "damaged"]
    assert shown.info.status == "FAILED"
    assert problem in shown.data.tags["mlflow.note.content"]
    before = sweep_files.rows(runs_root / "mlflow.db")
    sync(runs_root / "demo")
    assert sweep_files.rows(runs_root / "mlflow.db") == before


def test_a_sweep_that_is_not_there_is_refused(runs_root: Path) -> None:
    with pytest.raises(RecordError, match="no sweep at"):
        sync(runs_root / "nowhere")


def test_a_sweep_without_a_started_run_writes_nothing(runs_root: Path) -> None:
    sweep_files.add_run(runs_root / "demo")
    before = sweep_files.rows(runs_root / "mlflow.db")
    assert sync(runs_root / "demo").num_runs == 0
    assert sweep_files.rows(runs_root / "mlflow.db") == before


def test_long_param_values_are_cut(runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_PARAM_LENGTH", 5)
    paths = sweep_files.finished_sweep(runs_root / "demo", num_runs=1)[0]
    assert folders.read_folder(RunPaths(paths.root)).params()["digests.data"] == "ddddd"


@given(st.lists(st.text(min_size=0, max_size=12), min_size=1, max_size=4))
def test_any_source_name_makes_a_key_that_mlflow_takes(parts: list[str]) -> None:
    _validate_metric_name(folders.key(*parts))


def test_nothing_outside_a_sweeps_folder_is_read_or_written_for_it(runs_root: Path, tmp_path: Path) -> None:
    """A link is not followed into MLflow, and a run.json that names another place is left out."""
    (tmp_path / "id_rsa").write_text("PRIVATE KEY")
    sweep_files.finished_sweep(runs_root / "demo", num_runs=1)
    (run,) = [path.parent for path in (runs_root / "demo").glob("*/run.json")]
    (run / "provenance.json").unlink(missing_ok=True)
    (run / "provenance.json").symlink_to(tmp_path / "id_rsa")
    (runs_root / "demo" / "report.html").symlink_to(tmp_path / "id_rsa")
    sync(runs_root / "demo")
    kept = [path.read_text() for path in (runs_root / "mlartifacts").rglob("*") if path.is_file()]
    assert kept
    assert "PRIVATE KEY" not in kept
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace('"sweep": "demo"', '"sweep": "../../elsewhere"'))
    assert sync(runs_root / "demo").problems
    assert not list(tmp_path.rglob("elsewhere"))
