"""From runs that need a job to requests that an executor can submit: the longest first, each with its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memscale.config.launcher import Launcher
from memscale.launch.costs import cost_of, known_speeds, launcher_of
from memscale.launch.executor import JobRequest, worker_arguments
from memscale.launch.stages import run_paths
from memscale.launch.workers import WorkerSpec, workers_for
from memscale.planning.forecast import Speeds
from memscale.planning.plan import Plan
from memscale.planning.planned_runs import PlannedRun
from memscale.records.layout import SweepPaths


@dataclass(frozen=True, kw_only=True)
class Submittable:
    """A run that needs a job."""

    run: PlannedRun
    half_micro_batch: bool
    avoid: tuple[str, ...]
    """Nodes of its last faults."""


def job_requests(plan: Plan, paths: SweepPaths, submittable: Sequence[Submittable]) -> list[JobRequest]:
    """Return the job requests of the submittable runs, those that take longest first."""
    known: dict[Launcher, tuple[WorkerSpec, Speeds]] = {}
    timed: list[tuple[float, JobRequest]] = []
    for one in submittable:
        run = one.run
        folder, resources = run_paths(paths, run), launcher_of(plan.sweep, run)
        if resources not in known:
            specs = workers_for(resources, 1)
            known[resources] = specs[0], known_speeds(specs, resources)
        spec, speeds = known[resources]
        seconds = speeds.run_seconds(cost_of(plan.sweep, run, done=False))
        micro_batch = _half_micro_batch(plan, run) if one.half_micro_batch else None
        arguments = worker_arguments(folder, spec, resources, micro_batch=micro_batch)
        request = JobRequest(paths=folder, arguments=arguments, resources=resources, avoid=one.avoid)
        timed.append((seconds, request))
    return [request for _, request in sorted(timed, key=lambda pair: -pair[0])]


def _half_micro_batch(plan: Plan, run: PlannedRun) -> int:
    """Return half of a run's batch, in sequences."""
    return max(1, run.batch_tokens // plan.sweep.scale.sequence_length // 2)
