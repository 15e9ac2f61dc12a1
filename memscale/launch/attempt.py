"""What an attempt does between taking the lease and writing the outcome: train, evaluate, write the result."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from memscale.errors import ConfigError, RecordError
from memscale.launch.code_snapshot import check_running_code
from memscale.planning.identity import run_id
from memscale.records.atomic import write_bytes
from memscale.records.attempts import host_name
from memscale.records.heartbeat import Heartbeat, write_heartbeat
from memscale.records.layout import RunPaths
from memscale.records.metrics import read_metrics
from memscale.records.provenance import write_provenance
from memscale.records.result_file import write_result
from memscale.records.run_file import RunFile, read_run_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from memscale.data.prepared import Prepared
    from memscale.data.verification import VerifiedFile
    from memscale.training.distributed import ProcessGroup
    from memscale.training.trainer import Execution, Progress, TrainResult

_BEAT_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt of a run: its folder and number, and what of the machine it may use."""

    paths: RunPaths
    number: int
    threads: int
    device: str
    checkpoint_seconds: float
    table_memory: str
    micro_batch_sequences: int | None
    record_diff: bool = True
    """Whether the provenance has the uncommitted changes of the code."""

    def execution(self, device: str) -> Execution:
        """Return how the trainer shall execute the run on `device`."""
        from memscale.training.trainer import Execution

        return Execution(
            device=device,
            threads=self.threads,
            micro_batch_sequences=self.micro_batch_sequences,
            checkpoint_seconds=self.checkpoint_seconds,
            table_memory=self.table_memory,
        )


class _Heart:
    """Writes the heartbeat at most once a second."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._last = 0.0

    def beat(self, progress: Progress | None, phase: str) -> None:
        now = time.time()
        if progress is not None and progress.step < progress.num_steps and now - self._last < _BEAT_SECONDS:
            return
        self._last = now
        heartbeat = Heartbeat(
            time=now,
            step=progress.step if progress else 0,
            num_steps=progress.num_steps if progress else 0,
            tokens=progress.tokens if progress else 0,
            loss=_finite(progress.loss) if progress else None,
            tokens_per_second=progress.tokens_per_second if progress else 0.0,
            seconds_left=progress.seconds_left if progress else None,
            phase=phase,
            attempt=self._attempt.number,
            pid=os.getpid(),
            host=host_name(),
        )
        write_heartbeat(self._attempt.paths.heartbeat, heartbeat)


def run_attempt(attempt: Attempt, should_stop: Callable[[], bool]) -> str:
    """Train and evaluate; return 'done', 'diverged' or 'stopped'. Raises what goes wrong.

    As the first of the run's processes, where the environment names several (`memscale.training.distributed`); the
    others `follow_attempt`.
    """
    begun = time.time()
    heart = _Heart(attempt)
    heart.beat(None, "starting")
    # torch is imported later, so that a process that finds the lease taken, or a broken run.json, exits at once
    file, prepared, verified = _opened(attempt)
    from memscale.training.distributed import PeerLostError, init_process_group
    from memscale.training.trainer import train

    write_provenance(
        attempt.paths.provenance,
        data_manifest=prepared.manifest_json(),
        verified=[asdict(one) for one in verified],
        record_diff=attempt.record_diff,
    )
    process_group, device = init_process_group(attempt.device)
    latest: list[Progress] = []

    def on_progress(progress: Progress) -> None:
        latest[:] = [progress]
        heart.beat(progress, "training")

    trained = train(
        file.run, attempt.paths, prepared, attempt.execution(device), on_progress=on_progress, should_stop=should_stop,
        process_group=process_group,
    )  # fmt: skip
    if trained.status != "stopped":
        _conclude(attempt, file, prepared, trained, heart, latest[0] if latest else None, begun=begun)
    with suppress(PeerLostError):  # who is gone by now is not needed any more
        process_group.barrier()
    return trained.status


def follow_attempt(attempt: Attempt, process_group: ProcessGroup, device: str) -> None:
    """Train with the first of the run's processes, and wait until it has written the result. Raises what goes wrong."""
    from memscale.training.trainer import train

    file, prepared, _ = _opened(attempt)
    train(
        file.run, attempt.paths, prepared, attempt.execution(device), on_progress=lambda _: None,
        should_stop=lambda: False, process_group=process_group,
    )  # fmt: skip
    process_group.barrier()


def _opened(attempt: Attempt) -> tuple[RunFile, Prepared, tuple[VerifiedFile, ...]]:
    """Return the run, its data, and what of them was verified when.

    Raises ConfigError, DataError or RecordError where either is not what was planned.
    """
    check_running_code()
    file = read_run_file(attempt.paths.run)
    if run_id(file.run) != file.run_id:
        raise ConfigError(
            f"{attempt.paths.run} describes the run {run_id(file.run)}, but is filed as {file.run_id}: it was edited, "
            "or written by another version of memscale. Remove the folder and start the sweep again"
        )
    from memscale.data.prepared import Prepared
    from memscale.launch.budget_data import data_of_run

    prepared = Prepared.open(data_of_run(attempt.paths, file.run.digests))
    _check_digests(file, prepared)
    return file, prepared, prepared.verify_once()


def _conclude(
    attempt: Attempt,
    file: RunFile,
    prepared: Prepared,
    trained: TrainResult,
    heart: _Heart,
    progress: Progress | None,
    *,
    begun: float,
) -> None:
    """Evaluate, and write the result."""
    _check_counts(file, trained)
    heart.beat(progress, "evaluating")
    evaluated_from = time.time()
    scores = _evaluate(attempt.paths, file, prepared, trained) if trained.status == "done" else {}
    now = time.time()
    result = _result(file, trained, scores, evaluation_seconds=now - evaluated_from, total_seconds=now - begun)
    _check_unchanged(attempt.paths, file)
    write_result(attempt.paths, result)


def _check_unchanged(paths: RunPaths, file: RunFile) -> None:
    """Raise RecordError where the files that the result will vouch for were changed by somebody else meanwhile."""
    if read_run_file(paths.run) != file:
        raise RecordError(f"{paths.run} was changed while the run was trained; start the sweep again")
    for _ in read_metrics(paths.metrics, file.run_id):
        pass


def _check_digests(file: RunFile, prepared: Prepared) -> None:
    wanted, found = file.run.digests, prepared.digests
    if wanted != found:
        raise ConfigError(
            f"the run {file.name} was planned for the data {asdict(wanted)}, but {prepared.folder} holds "
            f"{asdict(found)}. Start the sweep again to prepare its data"
        )


def _check_counts(file: RunFile, trained: TrainResult) -> None:
    from memscale.models.transformer import count_parameters

    built = count_parameters(trained.model)
    planned = file.counts
    if (built.total, built.table) != (planned.params_total, planned.params_table):
        raise ConfigError(
            f"the built model of {file.name} has {built.total:,} parameters, {built.table:,} of them in its table; "
            f"planned were {planned.params_total:,} and {planned.params_table:,}"
        )


def _evaluate(paths: RunPaths, file: RunFile, prepared: Prepared, trained: TrainResult) -> dict[str, Any]:
    if file.tasks == ():
        return {}
    from memscale.evaluation.measure import evaluate_with_answers

    scores, answers = evaluate_with_answers(
        trained.model,
        prepared,
        file.tasks,
        sequence_length=file.run.sequence_length,
        batch_sequences=file.run.batch_sequences * 4,
        device=trained.device,
    )
    sys.stdout.flush()
    if answers:
        write_bytes(paths.answers, "".join(json.dumps(asdict(answer)) + "\n" for answer in answers).encode())
    return {task: {name: asdict(score) for name, score in metrics.items()} for task, metrics in scores.items()}


def _result(
    file: RunFile, trained: TrainResult, scores: dict[str, Any], *, evaluation_seconds: float, total_seconds: float
) -> dict[str, Any]:
    from memscale.models.transformer import count_parameters

    built = count_parameters(trained.model)
    losses = {name: {key: _finite(value) for key, value in loss.items()} for name, loss in trained.losses.items()}
    return {
        "run_id": file.run_id,
        "name": file.name,
        "sweep": file.sweep,
        "stage": file.stage,
        "series": file.series,
        "family": file.family,
        "seed": file.run.seed,
        "status": trained.status,
        "planned": asdict(file.counts),
        "achieved": {
            "params_total": built.total,
            "params_table": built.table,
            "tokens": trained.step * file.run.batch_tokens,
            "steps": trained.step,
        },
        "losses": losses,
        "usage": {name: _finite(value) for name, value in trained.usage.items()},
        "scores": scores,
        "timings": {
            "train_seconds": trained.train_seconds,
            "tokens_per_second": trained.tokens_per_second,
            "evaluation_seconds": evaluation_seconds,
            "total_seconds": total_seconds,
        },
        "peak_memory_bytes": trained.peak_memory_bytes,
        "micro_batch_sequences": trained.micro_batch_sequences,
        "ended": round(time.time(), 3),
    }


def _finite(value: float | None) -> float | None:
    """JSON has no infinity and no NaN; a missing number is null."""
    return value if value is not None and abs(value) < float("inf") else None
