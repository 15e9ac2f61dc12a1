"""The paths of the files of a sweep and of a run. Decides names only; opens nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from memscale.config.names import RUN_NAME, check_id, check_name
from memscale.errors import ConfigError, RecordError

_DATA = re.compile(r"[0-9a-f]{16}")


def runs_root() -> Path:
    """The folder of all sweeps: $MEMSCALE_RUNS, else ./runs. Absolute."""
    return Path(os.environ.get("MEMSCALE_RUNS") or "runs").absolute()


@dataclass(frozen=True)
class SweepPaths:
    """The folder of one sweep: plans, runs, figures and the report."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held by the one process that schedules the sweep."""
        return self.root / "sweep.lock"

    @property
    def cancel(self) -> Path:
        """Its presence asks the process that schedules the sweep to stop."""
        return self.root / "cancel"

    @property
    def sweep_file(self) -> Path:
        """The sweep's YAML file as it was when the sweep was last launched."""
        return self.root / "sweep.yaml"

    @property
    def slurm(self) -> Path:
        """What was submitted to SLURM, and with what; the jobs' scripts and output."""
        return self.root / "slurm"

    @property
    def launch(self) -> Path:
        """What the sweep was last launched with on SLURM."""
        return self.slurm / "launch.json"

    @property
    def submissions(self) -> Path:
        """A file for each array that was submitted."""
        return self.slurm / "submissions"

    @property
    def unseen(self) -> Path:
        """Since when jobs without an outcome have been missing."""
        return self.slurm / "unseen.json"

    @property
    def refusals(self) -> Path:
        """Which runs sbatch took no job of when it was last asked, and why."""
        return self.slurm / "refusals.json"

    @property
    def code(self) -> Path:
        """Snapshots of the code, by the hash of their content."""
        return self.root / "code"

    def plan(self, plan_hash: str) -> Path:
        """The plan with its opened stages. Raises RecordError where `plan_hash` is none."""
        with self._told():
            check_id("the plan's hash", plan_hash)
        return self.root / "plans" / f"{plan_hash}.json"

    @property
    def current_plan(self) -> Path:
        """Which plan was launched last."""
        return self.root / "plan.json"

    def run(self, name: str, run_id: str) -> RunPaths:
        """Return the folder of a run by its name and identity. Raises RecordError where they lead elsewhere."""
        with self._told():
            check_name("a run's name", name, RUN_NAME)
            check_id("a run's id", run_id)
        return RunPaths(self.root / f"{name}-{run_id}")

    def data(self, recorded: str) -> Path:
        """Return the folder of the prepared data that a file names, by its last part: data lie beside the sweeps.

        So it is found also where the runs folder was moved. Raises RecordError where it is no such name.
        """
        name = Path(recorded).name
        if _DATA.fullmatch(name) is None:
            raise RecordError(
                f"a file in {self.root} was edited or damaged: the prepared data are said to be in {recorded[:200]!r}; "
                "their folder is called by 16 hexadecimal digits"
            )
        return self.all_data / name

    @property
    def all_data(self) -> Path:
        """The folder of all prepared data, beside the sweeps."""
        return self.root.parent / "data"

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            raise RecordError(f"a file in {self.root} was edited or damaged: {error}") from None

    @property
    def finished(self) -> Path:
        """Which plan has all its runs done, its report written and MLflow up to date."""
        return self.root / "finished.json"

    @property
    def concluding(self) -> Path:
        """Locked by the one process that builds the report and mirrors the runs."""
        return self.root / "concluding"

    @property
    def concluded(self) -> Path:
        """What the report was last built from."""
        return self.root / "concluded.json"

    @property
    def resolution(self) -> Path:
        """What the sweep's plan said it could tell when it was launched."""
        return self.root / "resolution.json"

    @property
    def looks(self) -> Path:
        """With which seeds the report was built, each time there were new ones."""
        return self.root / "looks.json"

    @property
    def finished_runs(self) -> Path:
        """What `status` has read of runs that are done, kept from look to look."""
        return self.root / "finished-runs.json"

    @property
    def results_parquet(self) -> Path:
        """The results table as Parquet."""
        return self.root / "results.parquet"

    @property
    def results_csv(self) -> Path:
        """The results table as CSV."""
        return self.root / "results.csv"

    @property
    def figures(self) -> Path:
        """The figures of the report."""
        return self.root / "figures"

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.root / "report.html"


@dataclass(frozen=True)
class RunPaths:
    """The folder of one run, the single source of truth about it."""

    root: Path

    @property
    def run_id(self) -> str | None:
        """The run's identity, as the end of the folder's name; None where it does not end in one."""
        end = self.root.name.rpartition("-")[2]
        return end if re.fullmatch("[0-9a-f]{12}", end) else None

    @property
    def damaged(self) -> Path:
        """What was set aside because it was damaged: a folder a time, numbered."""
        return self.root / "damaged"

    @property
    def run(self) -> Path:
        """The resolved configuration (`memscale.records.run_file`)."""
        return self.root / "run.json"

    @property
    def provenance(self) -> Path:
        """What made the run: code, packages, data, machine."""
        return self.root / "provenance.json"

    @property
    def metrics(self) -> Path:
        """The metrics, a line a value."""
        return self.root / "metrics.jsonl"

    @property
    def answers(self) -> Path:
        """What the trained model knows of each dense fact that it was asked, a line a fact."""
        return self.root / "answers.jsonl"

    @property
    def heartbeat(self) -> Path:
        """How far the worker was when it last wrote."""
        return self.root / "heartbeat.json"

    @property
    def lease(self) -> Path:
        """Locked by the one process that trains this run."""
        return self.root / "lease"

    @property
    def stop(self) -> Path:
        """Its presence asks the trainer to checkpoint at the next step boundary and leave."""
        return self.root / "stop"

    @property
    def attempts(self) -> Path:
        """The folders of the attempts."""
        return self.root / "attempts"

    def attempt(self, number: int) -> Path:
        """Return the folder of an attempt, numbered from 1."""
        return self.attempts / str(number)

    @property
    def checkpoints(self) -> Path:
        """The folders of the checkpoints."""
        return self.root / "checkpoints"

    @property
    def result(self) -> Path:
        """Losses, scores and counts; written last, so that its presence means that the run is done."""
        return self.root / "result.json"
