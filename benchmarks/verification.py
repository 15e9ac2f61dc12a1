"""What it costs to verify data and results: digests in memory, the first read of a file, one run, and 10,000 runs.

`python -m benchmarks.verification [--json FILE]`. The peer of a verified read is the same read without a digest; the
peer of a look at runs reads each result and nothing else, as a look without verification would. Of these, and of a
whole run, the seconds are those of the processor, which do not depend on what else the machine does. A whole run is
made once; what of it verifies is timed inside it, for no two runs take the same time to a hundredth. Files are read
from the disk: their pages are dropped from memory before, as far as the system does so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from benchmarks import machine
from benchmarks.plan import _RULE, many_seeds
from memscale.config.load import load_sweep
from memscale.config.run import Digests
from memscale.data import verification
from memscale.data.manifest import Manifest, describe_files
from memscale.data.prepared import Prepared, prepare
from memscale.launch import attempt as attempts
from memscale.launch.attempt import Attempt, run_attempt
from memscale.launch.code_snapshot import digest_of_code
from memscale.launch.convert import plan_file, run_file
from memscale.launch.overview import sweep_status
from memscale.launch.stages import run_paths
from memscale.planning.budgets import size_knowledge
from memscale.planning.plan import Plan, make_plan
from memscale.records import atomic, metrics
from memscale.records.attempts import Outcome, new_attempt, write_outcome
from memscale.records.inspection import inspect
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.metrics import MetricsLog, read_metrics
from memscale.records.plan_file import write_plan_file
from memscale.records.provenance import CODE
from memscale.records.result_file import write_result
from memscale.records.run_file import write_run_file

_BLOCK = 1 << 20
_METRIC_LINES = 600
"""Of a run: 200 lines of training, each of three values."""
_DIGESTS = Digests(data="d" * 64, tokenizer="t" * 64, evaluation="e" * 64)


def digests(repeats: int) -> dict[str, float]:
    """Megabytes a second of the digests that hashlib has, on blocks of a megabyte in memory."""
    block, speeds = os.urandom(_BLOCK), {}
    for name in ("sha256", "blake2b", "blake2s", "sha1", "sha512"):
        digest = getattr(hashlib, name)
        taken = machine.seconds(lambda digest=digest: [digest(block) for _ in range(64)], repeats)  # type: ignore[misc]
        speeds[name] = 64 * _BLOCK / 1e6 / median(taken)
    return speeds


def first_read(folder: Path, num_bytes: int, repeats: int) -> dict[str, float]:
    """Megabytes a second of reading a token file from the disk, verified or not; seconds of later looks."""
    tokens = folder / "tokens" / "made.train.bin"
    tokens.parent.mkdir()
    with open(tokens, "wb") as file:
        for _ in range(num_bytes // _BLOCK):
            file.write(os.urandom(_BLOCK))
        os.fsync(file.fileno())
    manifest = Manifest(
        digests=_DIGESTS, vocab_size=300, dtype="uint16", knowledge_bits=None, validation_tokens=0, sources=(),
        evaluation_sets=(), files=tuple(describe_files(folder, [tokens])), versions=(), seconds=0.0,
    )  # fmt: skip
    read, verified = [], []
    for _ in range(repeats):
        read.append(_timed(lambda: _read(tokens), before=lambda: _drop(tokens)))
        verified.append(_timed(lambda: verification.verify(folder, manifest), before=lambda: _drop(tokens)))
    verification.verify_once(folder, manifest)
    again = machine.seconds(lambda: verification.verify_once(folder, manifest), 20)
    megabytes = num_bytes / 1e6
    return {
        "file_megabytes": megabytes,
        "disk_megabytes_per_second": megabytes / median(read),
        "verified_megabytes_per_second": megabytes / median(verified),
        "remembered_seconds": median(again),
    }


def many_runs(root: Path, num_runs: int, repeats: int) -> dict[str, float]:
    """Seconds of `status` for finished runs, and of what of it verifies."""
    composed = load_sweep("memory_vs_moe", ["launcher=local", *many_seeds(num_runs), *_RULE]).sweep
    plan = make_plan(size_knowledge(composed), _DIGESTS)
    paths = SweepPaths(root / plan.sweep.name)
    runs = _make(plan, paths)
    stored = plan_file(plan, root)
    first, later, verified, unverified = [], [], [], []
    for _ in range(repeats):
        paths.finished_runs.unlink(missing_ok=True)
        first.append(_timed(lambda: sweep_status(paths, stored), clock=time.process_time))
        later.append(_timed(lambda: sweep_status(paths, stored), clock=time.process_time))
        verified.append(_timed(lambda: [inspect(run) for run in runs], clock=time.process_time))
        unverified.append(
            _timed(lambda: [json.loads(run.result.read_bytes())["status"] for run in runs], clock=time.process_time)
        )
    assert sweep_status(paths, stored).counts == {"done": len(runs)}
    return {
        "runs": len(runs),
        "metrics_bytes_per_run": runs[0].metrics.stat().st_size,
        "status_first_processor_seconds": median(first),
        "status_later_processor_seconds": median(later),
        "verify_all_processor_seconds": median(verified),
        "read_results_only_processor_seconds": median(unverified),
    }


def one_run(folder: Path, repeats: int) -> dict[str, float]:
    """Seconds that verification adds to a run: the chain of its metrics, checking it, and a digest of the file."""
    path, chained = folder / "metrics.jsonl", []
    for _ in range(repeats):
        path.unlink(missing_ok=True)
        chained.append(_timed(lambda: _log(path)))
    checked = machine.seconds(lambda: [None for _ in read_metrics(path, "a" * 12)], repeats)
    hashed = machine.seconds(lambda: hashlib.sha256(path.read_bytes()).hexdigest(), repeats)
    return {
        "metric_lines": _METRIC_LINES,
        "write_seconds": median(chained),
        "check_chain_seconds": median(checked),
        "digest_seconds": median(hashed),
    }


def whole_run(folder: Path) -> dict[str, float]:
    """Processor seconds of the smallest dense run of the laptop scale, and of what in it verifies something.

    The run is the first one of its data on this machine, so that it reads them whole.
    """
    options = ["scale=laptop", "launcher=local", "evaluate.tasks=[]", *_RULE]
    sweep = size_knowledge(load_sweep("memory_vs_moe", options).sweep)
    prepared = prepare(sweep.data, folder)
    for remembered in (prepared.folder / "verified").glob("*.json"):
        remembered.unlink()
    plan = make_plan(sweep, prepared.digests)
    planned = min((run for run in plan.runs if run.family == "dense"), key=lambda run: run.flops_train)
    paths = run_paths(SweepPaths(folder / sweep.name), planned)
    write_run_file(paths.run, run_file(plan, planned))
    attempt = Attempt(
        paths=paths, number=new_attempt(paths, threads=1, device="cpu"), threads=1, device="cpu",
        checkpoint_seconds=30.0, table_memory="device", micro_batch_sequences=None,
    )  # fmt: skip
    spent = {"data": 0.0, "metrics_chain": 0.0, "files_at_the_end": 0.0, "digest_of_the_code": 0.0}
    with ExitStack() as stack:
        for part, owner, name in (
            ("data", Prepared, "verify_once"),
            ("metrics_chain", metrics, "_next"),
            ("files_at_the_end", attempts, "_check_unchanged"),
            ("files_at_the_end", attempts, "write_result"),
        ):
            stack.enter_context(mock.patch.object(owner, name, _counted(getattr(owner, name), spent, part)))
        begun = time.process_time()
        assert run_attempt(attempt, lambda: False) == "done"
        total = time.process_time() - begun
    spent["digest_of_the_code"] = _timed(lambda: digest_of_code(CODE), clock=time.process_time)
    later = _timed(prepared.verify_once, clock=time.process_time)
    verifying = sum(spent.values())
    return {
        "run_processor_seconds": total,
        **{f"{part}_processor_seconds": seconds for part, seconds in spent.items()},
        "data_megabytes": sum(file.num_bytes for file in prepared.manifest.files) / 1e6,
        "data_later_processor_seconds": later,
        "share_first_run": verifying / (total - verifying),
        "share_later_runs": (verifying - spent["data"] + later) / (total - verifying),
    }


def _counted(function: Callable[..., Any], spent: dict[str, float], part: str) -> Callable[..., Any]:
    def call(*arguments: Any, **words: Any) -> Any:
        begun = time.process_time()
        try:
            return function(*arguments, **words)
        finally:
            spent[part] += time.process_time() - begun

    return call


def measure(num_runs: int, num_bytes: int, repeats: int) -> dict[str, Any]:
    """Measure everything in a temporary folder, and return the JSON content."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in ("data", "runs", "run", "whole"):
            (folder / name).mkdir()
        return {
            "machine": machine.describe(),
            "digest_megabytes_per_second": digests(repeats),
            "first_read": first_read(folder / "data", num_bytes, repeats),
            "one_run": one_run(folder / "run", repeats),
            "whole_run": whole_run(folder / "whole"),
            "many_runs": many_runs(folder / "runs", num_runs, repeats),
        }


def _make(plan: Plan, paths: SweepPaths) -> list[RunPaths]:
    """Write the files of finished runs; without waiting for the disk, which is not what is measured."""
    with mock.patch("os.fsync"):
        write_plan_file(paths, plan_file(plan, paths.root.parent))
        first, made = run_paths(paths, plan.runs[0]), []
        _log(first.metrics)
        metrics = first.metrics.read_bytes()
        for planned in plan.runs:
            run = run_paths(paths, planned)
            write_run_file(run.run, run_file(plan, planned))
            run.metrics.write_bytes(metrics)
            run.provenance.write_text("{}\n", encoding="utf-8")
            number = new_attempt(run, threads=1, device="cpu")
            outcome = Outcome(cause="done", evidence="", started=1.0, ended=2.0, host="here")
            write_outcome(run, number, replace(outcome, ended=float(number)))
            losses = {"mixture": {"nats_per_token": 3.0}}
            content = {"run_id": planned.run_id, "name": planned.name, "status": "done", "losses": losses}
            write_result(run, {**content, "scores": {}, "usage": {}, "ended": 2.0})
            made.append(run)
        return made


def _log(path: Path) -> None:
    log = MetricsLog(path, "a" * 12)
    for step in range(_METRIC_LINES // 3):
        log.add(step, 1024 * step, "train", loss=3 / (1 + step), grad_norm=step / 7, learning_rate=1e-3)
    log.flush()
    log.close()


def _read(path: Path) -> None:
    with open(path, "rb", buffering=0) as file:
        while file.read(_BLOCK):
            pass


def _drop(path: Path) -> None:
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _timed(
    action: Callable[[], object],
    *,
    before: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    before()
    begun = clock()
    action()
    return clock() - begun


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verification", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    done = measure(given.runs, given.megabytes * _BLOCK, given.repeats)
    print(json.dumps(done, indent=1))
    if given.json is not None:
        atomic.write_json(given.json, done, format=1)


if __name__ == "__main__":
    main()
