"""Runs whose files are damaged, in MLflow: shown with the state `damaged` and what is wrong, and no number of theirs.

What was mirrored before the damage stays, for MLflow keeps what it was sent; the state says not to use it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from memscale.records.layout import RunPaths
from memscale.tracking.states import State

_TAG_LENGTH = 5000  # what older MLflow takes


@dataclass(frozen=True, kw_only=True)
class DamagedRun:
    """A run whose files are damaged."""

    paths: RunPaths
    run_id: str
    state: State
    why: str
    """What is damaged, with the file."""

    @property
    def name(self) -> str:
        """The run's name, as its folder has it."""
        return self.paths.root.name.rpartition("-")[0]

    def tags(self) -> dict[str, str]:
        """Return MLflow's tags: identity, state, and what is wrong."""
        return {
            "memscale.run_id": self.run_id,
            "memscale.role": "run",
            "memscale.name": self.name,
            "memscale.state": self.state.name,
            "memscale.cause": self.state.cause,
            MLFLOW_RUN_NOTE: f"No number of this run is used: {self.why}"[:_TAG_LENGTH],
        }


def damaged(paths: RunPaths, state: State, why: str) -> DamagedRun:
    """Return the run in `paths`, whose state was `state` before its damage was found. Its folder is named by its id."""
    assert paths.run_id is not None
    return DamagedRun(paths=paths, run_id=paths.run_id, state=replace(state, name="damaged", cause="damaged"), why=why)


def mirror_damaged(
    client: MlflowClient, experiment_id: str, parent_run_id: str, mirrored: Run | None, run: DamagedRun
) -> None:
    """Show a damaged run as failed, with what is wrong; a second call without news writes nothing."""
    tags = run.tags() | {MLFLOW_PARENT_RUN_ID: parent_run_id}
    if mirrored is None:
        started = round((run.state.started or run.state.ended or 0.0) * 1000)
        mirrored = client.create_run(experiment_id, start_time=started, tags=tags, run_name=run.name)
    changed = [RunTag(name, value) for name, value in tags.items() if mirrored.data.tags.get(name) != value]
    if changed:
        client.log_batch(mirrored.info.run_id, tags=changed, synchronous=True)
    if mirrored.info.status != run.state.mlflow_status:
        client.update_run(mirrored.info.run_id, status=run.state.mlflow_status)
