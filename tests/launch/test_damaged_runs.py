"""A finished sweep whose files are edited, swapped, cut or broken: that run is damaged, and nothing else changes.

One small sweep is trained for the module; each case works on a copy of its folder.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest

from memscale import api
from memscale.cli.main import main
from memscale.data import verification
from memscale.errors import CheckpointError, DataError
from memscale.launch import finished_runs, stages
from memscale.launch.attempt import Attempt, run_attempt
from memscale.launch.local import LocalExecutor
from memscale.launch.planned import launched
from memscale.launch.reconcile import reconcile
from memscale.models.transformer import Transformer, build
from memscale.planning.plan import Plan
from memscale.records.attempts import Outcome, new_attempt, write_outcome
from memscale.records.launch_file import Launch, write_launch
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.plan_file import read_plan_file
from memscale.records.run_file import read_run_file
from memscale.tracking.mirror import sync
from memscale.training.checkpoint import restore
from memscale.training.optimizers import AdamW, build_optimizer
from tests.launch import damage as damages
from tests.launch.damage import EDITS, WAYS, Damage
from tests.sweeps import FEWER, NAME, STORE, memscale, small_sweep, write_text

pytestmark = pytest.mark.slow

TRIES = min(25 * len(WAYS), int(24 * float(os.environ.get("MEMSCALE_FUZZ") or 1)))
"""24, or with MEMSCALE_FUZZ so many times as many: at most each part in each way once."""
VICTIM, OTHER = "dense-2e9-s0", "dense-2e9-s1"


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    text = write_text(tmp_path_factory.mktemp("text"))
    return small_sweep(text, flops="[2e9]", seeds="[0,1]", more=("launcher=local", *FEWER))


@pytest.fixture(scope="module")
def finished(overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("finished")
    memscale("sweep", NAME, *overrides, runs=runs)
    return runs


@pytest.fixture
def paths(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepPaths:
    monkeypatch.setenv("MEMSCALE_RUNS", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in (name for name in os.environ if name.startswith("MLFLOW_")):
        monkeypatch.delenv(name)
    shutil.copytree(finished / NAME, tmp_path / NAME)
    shutil.copytree(finished / "data", tmp_path / "data")
    return SweepPaths(tmp_path / NAME)


@pytest.fixture(scope="module")
def before(finished: Path) -> pd.DataFrame:
    return pd.read_parquet(finished / NAME / "results.parquet").set_index("name")


def folder(paths: SweepPaths, name: str) -> RunPaths:
    (found,) = paths.root.glob(f"{name}-" + "[0-9a-f]" * 12)
    return RunPaths(found)


def check_others(paths: SweepPaths, before: pd.DataFrame, *, broken: list[str]) -> pd.DataFrame:
    """Every number of the runs that are whole is as it was, and the broken ones have a row without one."""
    table = api.results(NAME).set_index("name")
    assert list(table.index) == list(before.index)
    whole = before.drop(broken)
    columns = [column for column in before if before[column].notna().any()]
    pd.testing.assert_frame_equal(table.loc[whole.index, columns], whole[columns], check_dtype=False)
    assert paths.results_csv.exists()
    return table


def state(name: str) -> tuple[str, str]:
    (line,) = [line for line in api.status(NAME).runs if line.row.name == name]
    return line.state.state, line.state.evidence + line.state.advice


@pytest.mark.parametrize("edit", EDITS, ids=lambda one: one.__name__)
def test_an_edit_is_shown_and_no_number_of_the_run_is_used(
    edit: Damage, paths: SweepPaths, before: pd.DataFrame
) -> None:
    run = folder(paths, VICTIM)
    edit(run, folder(paths, OTHER))
    shown, why = state(VICTIM)
    assert shown == "damaged"
    assert str(run.root) in why
    assert f"make retry SWEEP={NAME} RUN={VICTIM}" in why
    row = check_others(paths, before, broken=[VICTIM]).loc[VICTIM]
    assert row["status"] == "damaged"
    assert row["params_total"] == before.loc[VICTIM, "params_total"]
    assert pd.isna(row["loss_nats"])
    assert pd.isna(row["train_seconds"])


def test_after_the_first_look_an_edit_is_seen_as_well(paths: SweepPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished_runs, "_MANY_NEW", 1)
    first = api.status(NAME)
    assert (first.state, paths.finished_runs.exists()) == ("done", True)
    monkeypatch.setattr(finished_runs, "inspect", lambda _: pytest.fail("a run that is as it was is not read again"))
    assert api.status(NAME).to_json() == first.to_json()
    monkeypatch.undo()
    monkeypatch.setenv("MEMSCALE_RUNS", str(paths.root.parent))
    run = folder(paths, VICTIM)
    times = run.metrics.stat()
    damages.reordered_metrics(run, run)
    os.utime(run.metrics, ns=(times.st_atime_ns, times.st_mtime_ns))  # same size, same time of modification
    assert state(VICTIM)[0] == "damaged"


def test_one_report_names_every_damaged_run_and_changed_data_and_mlflow_shows_them(
    paths: SweepPaths, finished: Path, before: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [name for name in before.index if not name.endswith("-s1")]
    edits = (
        damages.another_runs_result, damages.edited_loss, damages.edited_rate, damages.deleted_run_file,
        damages.swapped_checkpoint, damages.reordered_metrics,
    )  # fmt: skip
    other = folder(paths, OTHER)
    for name, edit in zip(names, edits, strict=True):
        edit(folder(paths, name), other)
    data = next((paths.root.parent / "data").glob("*/tokens/*.train.bin"))
    tokens = data.read_bytes()
    flipped = bytearray(tokens)
    flipped[-100] ^= 1
    data.write_bytes(flipped)
    report = api.report(NAME)
    page, seen = report.html.read_text(), api.status(NAME)
    main(["status", NAME])
    data.write_bytes(tokens)
    content = json.loads((paths.root / "analysis.json").read_text())
    left_out = {one["name"]: one["status"] for one in content["runs"]["left_out"]}
    assert left_out == dict.fromkeys(names, "damaged")
    assert all(name in page for name in names)
    assert data.name in page
    assert data.name in seen.data_changed
    assert "block 0" in capsys.readouterr().out
    assert seen.counts == {"damaged": len(names), "done": len(before) - len(names)}
    check_others(paths, before, broken=names)
    shutil.copyfile(finished / STORE, paths.root.parent / STORE)
    assert len(sync(paths.root).problems) == len(names)
    assert verification.what_changed(data.parents[1]) == ""


def test_a_changed_tokenizer_is_said_and_a_run_that_starts_refuses_it(
    paths: SweepPaths, before: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    (prepared,) = (paths.root.parent / "data").glob("*/manifest.json")
    file = prepared.parent / "tokenizer.json"
    file.write_bytes(file.read_bytes().replace(b"e", b"f", 1))
    assert file.name in api.status(NAME).data_changed
    check_others(paths, before, broken=[])
    run = folder(paths, VICTIM)
    run.result.unlink()
    # The worker itself would take over this process's output and signals.
    attempt = Attempt(
        paths=run, number=2, threads=1, device="cpu", checkpoint_seconds=1e9,
        table_memory="auto", micro_batch_sequences=None,
    )  # fmt: skip
    monkeypatch.setattr("memscale.training.trainer.train", lambda *_, **__: pytest.fail("a step was taken"))
    with pytest.raises(DataError, match=r"tokenizer.json is not what was prepared"):
        run_attempt(attempt, lambda: False)


def test_retry_sets_the_damage_aside_and_the_run_ends_as_it_had(
    paths: SweepPaths, finished: Path, before: pd.DataFrame, overrides: list[str]
) -> None:
    """Each of three runs is broken in another way, one folder is deleted by hand; one launch mends them all."""
    shutil.copyfile(finished / STORE, paths.root.parent / STORE)
    other = folder(paths, OTHER)
    names = [VICTIM, "moe-2e9-s0", "memory_plus-2e9-s0"]
    damages.reordered_metrics(folder(paths, names[0]), other)
    damages.swapped_checkpoint(folder(paths, names[1]), other)
    damages.deleted_run_file(folder(paths, names[2]), other)
    by_hand = folder(paths, "moe-2e9-s1")
    shutil.rmtree(by_hand.root)
    assert state("moe-2e9-s1")[0] == "planned"
    assert "folder is missing" in state("moe-2e9-s1")[1]
    assert api.results(NAME).set_index("name").loc["moe-2e9-s1", "status"] == "planned"
    asked = memscale("sweep", NAME, *overrides, runs=paths.root.parent, check=False)
    shutil.rmtree(by_hand.root)  # it was trained again meanwhile, and what is damaged was not touched
    assert asked.returncode == 4
    assert "3 of 9 runs are damaged" in asked.stdout
    assert sorted(api.retry(NAME)) == sorted(names)
    assert {state(name)[0] for name in names} <= {"planned", "damaged"}
    memscale("sweep", NAME, *overrides, runs=paths.root.parent)
    assert api.status(NAME).counts == {"done": len(before)}
    after = api.results(NAME).set_index("name")
    pd.testing.assert_series_equal(after["loss_nats"], before["loss_nats"], rtol=1e-6)
    run = folder(paths, names[0])
    assert "lines_lost" in run.metrics.read_text()
    assert (run.damaged / "1" / "metrics.jsonl").exists()
    assert "lines_lost" not in folder(paths, names[1]).metrics.read_text()


@pytest.mark.parametrize("broken", ["the note", "the plan", "an edited rate", "both", "the folder of plans"])
def test_a_damaged_plan_is_rebuilt_from_the_runs(paths: SweepPaths, before: pd.DataFrame, broken: str) -> None:
    plan = read_plan_file(paths)
    assert plan is not None
    file = paths.plan(plan.plan_hash)
    if broken in ("the note", "both"):
        paths.current_plan.write_bytes(b"\0\1")
    if broken in ("the plan", "both"):
        file.write_bytes(file.read_bytes()[:1000])
    if broken == "an edited rate":
        file.write_text(file.read_text().replace('"learning_rate": 0.01', '"learning_rate": 0.02'))
    if broken == "the folder of plans":
        shutil.rmtree(file.parent)
        file.parent.write_text("a file")
    assert api.status(NAME).counts == {"done": len(before)}
    table = api.results(NAME).set_index("name")
    pd.testing.assert_frame_equal(table.loc[before.index], before, check_dtype=False, check_like=True)
    rebuilt = api.status(NAME).plan_hash, paths.current_plan.read_text()
    assert rebuilt[0] == plan.plan_hash
    assert ("rebuilt" in api.report(NAME).html.read_text()) == (broken != "the note")


def test_a_damaged_plan_of_slurm_is_planned_anew_with_its_choices(paths: SweepPaths, plan: Plan) -> None:
    whole = read_plan_file(paths)
    assert whole is not None
    launch = Launch.of_plan(plan.sweep, plan.digests, launched=0.0, code="", python="python")
    write_launch(paths, launch)
    paths.plan(whole.plan_hash).write_bytes(b"")
    _, rebuilt = launched(NAME)
    assert rebuilt.runs == whole.runs
    assert rebuilt.choices == whole.choices


def attempts_at(tries: int) -> list[tuple[int, int, str]]:
    """A part, a way and a run for each try: all ways first, then all parts."""
    chance = random.Random(14)
    pairs = [(part, way) for part in range(25) for way in WAYS]
    chance.shuffle(pairs)
    return [(number, *pairs[number % len(pairs)]) for number in range(tries)]


@pytest.mark.parametrize("number, part, way", attempts_at(TRIES))
def test_whatever_is_broken_harms_that_run_alone(
    number: int, part: int, way: str, paths: SweepPaths, finished: Path, before: pd.DataFrame, plan: Plan,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = folder(paths, VICTIM)
    parts = damages.parts(run)
    path = parts[part % len(parts)]
    damages.damage(path, way, random.Random(number))
    for verb in (["status"], ["results"], ["watch"], ["logs"], ["logs", VICTIM], ["status", "--json"]):
        status = main([verb[0], NAME, *verb[1:]])
        assert status in ((0, 4) if verb[0] in ("status", "watch") else (0,)), (verb, capsys.readouterr())
    others = {line.row.name: line.state.state for line in api.status(NAME).runs if line.row.name != VICTIM}
    assert set(others.values()) == {"done"}
    shown = state(VICTIM)[0]
    table = check_others(paths, before, broken=[VICTIM])
    if shown == "done":
        assert table.loc[VICTIM, "loss_nats"] == before.loc[VICTIM, "loss_nats"]
    else:
        assert pd.isna(table.loc[VICTIM].get("loss_nats"))
    _heavy_verb(number % 4, run, paths, finished)
    assert main(["cancel", NAME, VICTIM]) in (0, 2)
    assert main(["retry", NAME]) == 0
    stages.write_files(plan, paths, forget_stops=True)
    launch = Launch.of_plan(plan.sweep, plan.digests, launched=0.0, code="", python="python")
    step = reconcile(launch, plan, paths, LocalExecutor(workers=(), launched=0.0))
    assert step.num_done >= len(before) - 1
    assert state(VICTIM)[0] in ("done", "planned", "lost")
    capsys.readouterr()


def _heavy_verb(which: int, run: RunPaths, paths: SweepPaths, finished: Path) -> None:
    if which == 0:
        assert main(["figures", NAME]) == 0
    elif which == 1:
        assert main(["evaluate", str(run.root), "--task", "held_out_text_nll"]) in (0, 2)
    elif which == 2:
        assert main(["export", NAME, VICTIM, str(paths.root.parent / "exported")]) in (0, 2)
        assert main(["export", NAME, OTHER, str(paths.root.parent / "other")]) == 0
    else:
        shutil.copyfile(finished / STORE, paths.root.parent / STORE)
        assert sync(paths.root).num_runs >= 8


@pytest.fixture(scope="module")
def plan(finished: Path, overrides: list[str]) -> Plan:
    """The plan, opened as it was when the sweep ended."""
    kept = os.environ.get("MEMSCALE_RUNS")
    os.environ["MEMSCALE_RUNS"] = str(finished)
    try:
        return api.plan(NAME, overrides).plan
    finally:
        os.environ.pop("MEMSCALE_RUNS") if kept is None else os.environ.update(MEMSCALE_RUNS=kept)


def test_runs_that_were_trained_by_different_code_are_said_in_status_and_report(
    paths: SweepPaths, before: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    assert api.status(NAME).code_differs == ""
    submission = folder(paths, VICTIM).attempt(1) / "submission.json"
    content = json.loads(submission.read_text())
    submission.write_text(json.dumps({**content, "code": "0123456789ab"}))
    differs = api.status(NAME).code_differs
    assert f"{len(before) - 1} by {content['code']}" in differs
    assert f"{VICTIM} by 0123456789ab" in differs
    assert main(["status", NAME]) == 0
    assert differs in capsys.readouterr().out.replace("\n", " ")
    report = api.report(NAME)
    assert "were not all trained by the same code" in report.html.read_text()
    assert "0123456789ab" in report.html.read_text()


def test_a_run_of_whose_checkpoints_a_purge_left_none_good_is_trained_anew(paths: SweepPaths) -> None:
    run = folder(paths, VICTIM)
    run.result.unlink()
    for file in run.checkpoints.rglob("*.safetensors"):
        file.unlink()
    with pytest.raises(CheckpointError, match="none of the") as raised:
        restore(run.checkpoints, read_run_file(run.run).run, *untrained(run))
    told = Outcome(cause="error", evidence=f"CheckpointError: {raised.value}", started=1.0, ended=2.0, host="h")
    write_outcome(run, new_attempt(run, threads=1, device="cpu"), told)
    shown, why = state(VICTIM)
    assert shown == "failed"
    assert f"make retry SWEEP={NAME} RUN={VICTIM}" in why
    assert api.retry(NAME) == [VICTIM]
    assert all(path.name.startswith("damaged-") for path in run.checkpoints.iterdir())
    assert restore(run.checkpoints, read_run_file(run.run).run, *untrained(run)) is None


def untrained(run: RunPaths) -> tuple[Transformer, AdamW]:
    """The run's model and optimizer as they are before the first step."""
    file = read_run_file(run.run)
    model = build(file.run.architecture, seed=file.run.seed)
    return model, build_optimizer(model, file.run.optimizer)
