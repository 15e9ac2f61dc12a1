"""One sweep into MLflow: an experiment a sweep, in it a parent run and below it one run for each run that was started.

Reads run files only and writes MLflow only, so it may run at any time, from any process, as often as one likes: a
second sync without news writes nothing. One process writes at a time; another one returns at once and names it.
Steps beyond the last durable checkpoint are not mirrored (see `memscale.tracking.metric_history`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Experiment, InputTag, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from memscale.errors import RecordError
from memscale.records.atomic import read_json
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.lease import LeaseTakenError
from memscale.records.plan_file import FORMAT as PLAN_FORMAT
from memscale.tracking.artifacts import mirror_artifacts
from memscale.tracking.damaged import DamagedRun, damaged, mirror_damaged
from memscale.tracking.folder import RunFolder, read_folder
from memscale.tracking.metric_history import SENDING, mirror_metrics
from memscale.tracking.store import Store, TrackingError, explained, holding, open_store, resolve
from memscale.tracking.view import mirror_view

_PARAMS_PER_BATCH = 100  # MLflow's limit
_RUNS_PER_PAGE = 1000  # MLflow's limit is 50,000; its default 1,000
_STATES = ("done", "running", "planned", "failed", "lost", "damaged")


@dataclass(frozen=True, kw_only=True)
class Synced:
    """What one sync did."""

    uri: str
    """Tracking URI, without its password."""
    experiment_id: str | None
    """None where nothing was started yet, or somebody else syncs."""
    parent_run_id: str | None
    num_runs: int = 0
    """Runs of the sweep that MLflow now shows."""
    num_points: int = 0
    """Metric points sent by this call."""
    problems: tuple[str, ...] = ()
    """Runs that are shown as damaged, or left out, and which file of theirs it is."""
    held_by: str | None = None
    """Set where another process was syncing, so nothing was done."""


def sync(
    sweep_root: Path, *, uri: str | None = None, wait_seconds: float = 0.0, store_root: Path | None = None
) -> Synced:
    """Mirror the sweep in `sweep_root` into the store at `uri` (None: $MLFLOW_TRACKING_URI, else beside the sweeps).

    `store_root` is the folder of a store of the reader's own, for who may not write beside the sweeps. Waits up to
    `wait_seconds` for another syncer; give some to the sync after the last run.
    Raises RecordError where there is no such sweep, TrackingError where MLflow cannot be written to.
    """
    paths = SweepPaths(sweep_root.absolute())
    if not paths.root.is_dir():
        raise RecordError(f"there is no sweep at {paths.root}; launch it first")
    store = resolve(store_root or paths.root.parent, uri)
    try:
        with holding(store, wait_seconds=wait_seconds):
            client = open_store(store)
            with explained(store, f"mirror {paths.root.name} into"):
                return _mirror(client, store, paths)
    except LeaseTakenError as error:
        return Synced(uri=store.shown, experiment_id=None, parent_run_id=None, held_by=str(error))


def _mirror(client: MlflowClient, store: Store, paths: SweepPaths) -> Synced:
    folders, broken, problems = _read_folders(paths)
    started = [folder for folder in folders if folder.state.started is not None]
    if not started:
        return Synced(uri=store.shown, experiment_id=None, parent_run_id=None, problems=tuple(problems))
    experiment = _experiment(client, store, started[0].file.sweep)
    experiment_id = experiment.experiment_id
    mirrored = list(_runs(client, experiment_id))
    parent = _parent(client, experiment_id, mirrored, paths, folders, len(broken))
    children = {run.data.tags["memscale.run_id"]: run for run in mirrored if "memscale.run_id" in run.data.tags}
    num_points = 0
    for folder in started:
        try:
            child = children.get(folder.file.run_id)
            num_points += _mirror_run(client, experiment_id, parent.info.run_id, child, folder)
        except RecordError as error:
            problems.append(str(error))
    for run in broken:
        mirror_damaged(client, experiment_id, parent.info.run_id, children.get(run.run_id), run)
    results = [folder.result for folder in started if folder.result is not None]
    mirror_view(client, experiment, (metric.key for result in results for metric in result.metrics))
    mirror_artifacts(client, parent, _sweep_artifacts(paths))
    status = _sweep_status({one.state.name for one in folders} | {one.state.name for one in broken})
    ends = [folder.state.ended for folder in started if folder.state.ended is not None]
    _set_status(client, parent, status, max(ends) if ends and status != "RUNNING" else None)
    return Synced(
        uri=store.shown,
        experiment_id=experiment_id,
        parent_run_id=parent.info.run_id,
        num_runs=len(started),
        num_points=num_points,
        problems=tuple(problems),
    )


def _read_folders(paths: SweepPaths) -> tuple[list[RunFolder], list[DamagedRun], list[str]]:
    """The sweep's runs by name, those that are damaged, and what is wrong with these."""
    folders: dict[str, RunFolder] = {}
    broken: list[DamagedRun] = []
    problems = []
    for run in _run_folders(paths):
        try:
            folder = read_folder(run)
        except RecordError as error:
            problems.append(str(error))
            continue
        if isinstance(folder, DamagedRun):
            broken.append(folder)
            problems.append(folder.why)
            continue
        twin = folders.setdefault(folder.file.run_id, folder)
        if twin is not folder:
            problems.append(f"{folder.paths.root} has the run id of {twin.paths.root}; only the latter is mirrored")
    return list(folders.values()), broken, problems


def _run_folders(paths: SweepPaths) -> list[RunPaths]:
    """What lies in the sweep's folder and is a run: named with an id, or holding a `run.json`."""
    found = (RunPaths(path) for path in sorted(paths.root.iterdir()) if path.is_dir() or RunPaths(path).run_id)
    return [run for run in found if run.run_id is not None or run.run.is_file()]


def _mirror_run(
    client: MlflowClient, experiment_id: str, parent_run_id: str, mirrored: Run | None, folder: RunFolder
) -> int:
    """Mirror one run; its status comes last, so that FINISHED means that all of it is there."""
    tags = folder.tags() | {MLFLOW_PARENT_RUN_ID: parent_run_id}
    if mirrored is None:
        # The run is found again by the tags it is born with, so a kill right after this makes no second one.
        started = _milliseconds(folder.state.started or 0.0)
        name = folder.file.name
        mirrored = client.create_run(experiment_id, start_time=started, tags=tags | {SENDING: "yes"}, run_name=name)
    _log_params(client, mirrored, folder.params())
    if not (mirrored.inputs and mirrored.inputs.dataset_inputs):
        context = [InputTag(MLFLOW_DATASET_CONTEXT, "training")]
        client.log_inputs(mirrored.info.run_id, datasets=[DatasetInput(folder.dataset(), context)])
    try:
        num_points = mirror_metrics(client, mirrored, folder)
    except RecordError as error:
        mirror_damaged(client, experiment_id, parent_run_id, mirrored, damaged(folder.paths, folder.state, str(error)))
        raise
    mirror_artifacts(client, mirrored, folder.artifacts())
    _set_tags(client, mirrored, tags)
    _set_status(client, mirrored, folder.state.mlflow_status, folder.state.ended)
    return num_points


def _experiment(client: MlflowClient, store: Store, sweep: str) -> Experiment:
    """The sweep's experiment, created where there is none. Raises TrackingError where a person deleted it."""
    found = client.get_experiment_by_name(sweep)
    if found is None:
        location = (store.artifacts / sweep).as_uri() if store.artifacts is not None else None
        # Without a kind, the UI takes every experiment for one of prompts and traces.
        tags = {"memscale.sweep": sweep, "mlflow.experimentKind": "custom_model_development"}
        return client.get_experiment(client.create_experiment(sweep, artifact_location=location, tags=tags))
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"the MLflow experiment '{sweep}' (id {found.experiment_id}) was deleted, and MLflow keeps its name. "
            f"Restore it: MLFLOW_TRACKING_URI='{store.shown}' mlflow experiments restore -x {found.experiment_id}"
        )
    return found


def _runs(client: MlflowClient, experiment_id: str) -> Iterable[Run]:
    """Every run of the experiment, page by page."""
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], max_results=_RUNS_PER_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _parent(
    client: MlflowClient,
    experiment_id: str,
    mirrored: Iterable[Run],
    paths: SweepPaths,
    folders: list[RunFolder],
    num_damaged: int,
) -> Run:
    """The sweep's own run, created where there is none, with its tags up to date."""
    tags = _sweep_tags(paths, folders, num_damaged)
    for run in mirrored:
        if run.data.tags.get("memscale.role") == "sweep":
            _set_tags(client, run, tags)
            return run
    first = min(folder.state.started for folder in folders if folder.state.started is not None)
    name = folders[0].file.sweep
    return client.create_run(experiment_id, start_time=_milliseconds(first), tags=tags, run_name=name)


def _sweep_tags(paths: SweepPaths, folders: list[RunFolder], num_damaged: int) -> dict[str, str]:
    counts = Counter(folder.state.name for folder in folders)
    counts["damaged"] += num_damaged
    question = folders[0].file.question
    plan_hash = ""
    with suppress(RecordError):
        plan_hash = str(read_json(paths.current_plan, format=PLAN_FORMAT).get("plan_hash", ""))
    numbers = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])
    note = f"**{question}**\n\nplan {plan_hash or 'unknown'}: {numbers} of {counts.total()} runs. Files: `{paths.root}`"
    return {
        "memscale.role": "sweep",
        "memscale.sweep": folders[0].file.sweep,
        "memscale.question": question,
        "memscale.plan_hash": plan_hash,
        "memscale.scale": ", ".join(sorted({folder.file.scale for folder in folders})),
        **{f"memscale.runs_{state}": str(counts[state]) for state in _STATES},
        MLFLOW_RUN_NOTE: note,
    }


def _sweep_status(states: set[str]) -> str:
    """RUNNING while a run is; FINISHED when all are done; FAILED when one needs somebody; KILLED when some wait."""
    if "running" in states:
        return "RUNNING"
    if states == {"done"}:
        return "FINISHED"
    return "FAILED" if states & {"failed", "lost", "damaged"} else "KILLED"


def _sweep_artifacts(paths: SweepPaths) -> dict[str, Path]:
    files = {path.name: path for path in (paths.current_plan, paths.results_csv, paths.results_parquet, paths.report)}
    if paths.figures.is_dir():
        figures = sorted(path for path in paths.figures.rglob("*") if not path.name.startswith("."))
        files |= {str(path.relative_to(paths.root)): path for path in figures}
    return {name: path for name, path in files.items() if path.is_file()}


def _log_params(client: MlflowClient, mirrored: Run, wanted: Mapping[str, str]) -> None:
    """Send the params MLflow lacks. Those it has are never sent again: they cannot be changed."""
    missing = [Param(name, value) for name, value in wanted.items() if name not in mirrored.data.params]
    for start in range(0, len(missing), _PARAMS_PER_BATCH):
        client.log_batch(mirrored.info.run_id, params=missing[start : start + _PARAMS_PER_BATCH], synchronous=True)


def _set_tags(client: MlflowClient, mirrored: Run, wanted: Mapping[str, str]) -> None:
    changed = [RunTag(name, value) for name, value in wanted.items() if mirrored.data.tags.get(name) != value]
    if changed:
        client.log_batch(mirrored.info.run_id, tags=changed, synchronous=True)


def _set_status(client: MlflowClient, mirrored: Run, status: str, ended: float | None) -> None:
    """Set a run's status: MLflow itself leaves a killed run RUNNING for ever."""
    info = mirrored.info
    if status in ("RUNNING", "SCHEDULED") or ended is None or not math.isfinite(ended):
        if info.status != status:
            client.update_run(info.run_id, status=status)
    elif (info.status, info.end_time) != (status, _milliseconds(ended)):
        client.set_terminated(info.run_id, status=status, end_time=_milliseconds(ended))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
