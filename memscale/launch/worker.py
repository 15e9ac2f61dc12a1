"""One attempt of one run: `python -m memscale.launch.worker RUN_DIRECTORY`.

Takes the run's lease (a second copy leaves at once), trains from the last checkpoint, evaluates, and writes the result
last. A SIGTERM, SIGINT, SIGHUP or SIGUSR2, a stop file, or the death of the process that started it ends it at a step
boundary with a checkpoint. Whatever ends it is written to the attempt's outcome, but for a kill that leaves no time.

Where the environment has torch's RANK and WORLD_SIZE, it is one of several processes of the attempt. The first does all
of the above; the others do as it does, and leave when it has written the result.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType

from memscale.config.launcher import TABLE_MEMORIES
from memscale.errors import MemscaleError, RecordError
from memscale.launch.attempt import Attempt, follow_attempt, run_attempt
from memscale.launch.training_code import TRAINING_CODE
from memscale.records.access import modes_of, open_to_append
from memscale.records.attempts import (
    Outcome,
    attempt_numbers,
    host_name,
    last_step,
    log_path,
    new_attempt,
    read_outcome,
    write_outcome,
)  # fmt: skip
from memscale.records.layout import RunPaths
from memscale.records.lease import Lease, LeaseTakenError

_STOP_FILE = "a stop file"
_PEER_LOST = "PeerLostError"
"""By its name: its module imports torch."""
_OUTCOME_SECONDS = 3.0
"""How long to wait for the outcome that a failed process of the attempt writes."""
EXIT_DONE, EXIT_STOPPED, EXIT_TAKEN = 0, 75, 76
"""A failure ends with Python's own 1, after its traceback."""


class _Stop:
    """Whether this attempt is asked to leave, and by what."""

    def __init__(self, paths: RunPaths) -> None:
        self._file = paths.stop
        self._parent = os.getppid()
        self.reason = ""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
                signal.signal(number, self._received)

    def _received(self, number: int, _: FrameType | None) -> None:
        self.reason = signal.Signals(number).name

    @property
    def cause(self) -> str:
        """What an attempt that left for this reason ended of. SLURM sends SIGUSR2 before a job's time is up."""
        return {signal.SIGUSR2.name: "time_limit", _STOP_FILE: "cancelled"}.get(self.reason, "stopped")

    def __call__(self) -> bool:
        if not self.reason and self._file.exists():
            self.reason = _STOP_FILE
        if not self.reason and os.getppid() != self._parent:
            self.reason = "the death of the process that started it"
        return bool(self.reason)


def main(arguments: list[str] | None = None) -> int:
    """Make one attempt of the run that `arguments` (None: the command line's) name; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m memscale.launch.worker", description=__doc__)
    parser.add_argument("run", type=Path, help="the run's directory")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--checkpoint-seconds", type=float, default=30.0)
    parser.add_argument("--table-memory", choices=TABLE_MEMORIES, default=TABLE_MEMORIES[0])
    parser.add_argument("--micro-batch", type=int, default=None, help="sequences; default: found")
    parser.add_argument("--no-diff", action="store_true", help="leave uncommitted changes of the code unrecorded")
    given = parser.parse_args(arguments)
    paths = RunPaths(given.run.absolute())
    with modes_of(paths.root):
        return _work(given, paths)


def _work(given: argparse.Namespace, paths: RunPaths) -> int:
    stop = _Stop(paths)
    if rank := int(os.environ.get("RANK", "0")):
        return _follow(given, paths, rank)
    try:
        with Lease(paths.lease, f"the run {paths.root.name}"):
            if paths.result.exists():
                # The others wait for the first one: srun ends them where it fails.
                return EXIT_DONE if num_processes() == 1 else EXIT_TAKEN
            number = new_attempt(paths, threads=given.threads, device=given.device, code=TRAINING_CODE)
            return _attempt(_begun(given, paths, number), stop)
    except LeaseTakenError as error:
        print(error, file=sys.stderr)
        return EXIT_TAKEN


def num_processes() -> int:
    """Of this run, as torch's environment has it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _begun(given: argparse.Namespace, paths: RunPaths, number: int, rank: int = 0) -> Attempt:
    _redirect(log_path(paths, number, rank))
    logging.basicConfig(format="%(message)s")
    logging.getLogger("memscale").setLevel(logging.INFO)
    return Attempt(
        paths=paths,
        number=number,
        threads=given.threads,
        device=given.device,
        checkpoint_seconds=given.checkpoint_seconds,
        table_memory=given.table_memory,
        micro_batch_sequences=given.micro_batch,
        record_diff=not given.no_diff,
    )


def _follow(given: argparse.Namespace, paths: RunPaths, rank: int) -> int:
    """Be one of the attempt's other processes."""
    from memscale.training.distributed import init_process_group

    process_group, device = init_process_group(
        given.device
    )  # the first one comes once it has the lease and has made the attempt
    attempt, started = _begun(given, paths, max(attempt_numbers(paths)), rank), time.time()
    try:
        follow_attempt(attempt, process_group, device)
    except BaseException as error:
        if type(error).__name__ != _PEER_LOST:
            evidence = f"process {rank} on {host_name()}: {type(error).__name__}: {error}"
            _end(attempt, started, _cause(error), evidence, _frames(error), rank)
        raise
    return EXIT_DONE


def _attempt(attempt: Attempt, stop: _Stop) -> int:
    started = time.time()
    try:
        status = run_attempt(attempt, stop)
    except BaseException as error:
        found = _outcome_of_others(attempt) if type(error).__name__ == _PEER_LOST else None
        cause, evidence, trace = found or (_cause(error), f"{type(error).__name__}: {error}", _frames(error))
        _end(attempt, started, cause, evidence, trace)
        raise
    if status == "stopped":
        _end(attempt, started, stop.cause, f"asked to by {stop.reason}")
        return EXIT_STOPPED
    _end(attempt, started, status, "its result is written")
    return EXIT_DONE


def _outcome_of_others(attempt: Attempt) -> tuple[str, str, str] | None:
    """Return cause, evidence and trace of a process that failed before this one; None where none wrote an outcome."""
    until = time.monotonic() + _OUTCOME_SECONDS
    while time.monotonic() < until:
        for rank in range(1, num_processes()):
            if (outcome := read_outcome(attempt.paths, attempt.number, rank)) is not None:
                return outcome.cause, outcome.evidence, outcome.trace
        time.sleep(0.2)
    return None


def _end(attempt: Attempt, started: float, cause: str, evidence: str, trace: str = "", rank: int = 0) -> None:
    outcome = Outcome(
        cause=cause,
        evidence=evidence,
        started=started,
        ended=time.time(),
        host=host_name(),
        trace=trace,
        step=last_step(attempt.paths),
    )
    print(f"{cause}: {evidence}", flush=True)
    write_outcome(attempt.paths, attempt.number, outcome, rank)


def _cause(error: BaseException) -> str:
    """Return the cause (`memscale.records.attempts.CAUSES`) that an exception is."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(link)
        link = link.__cause__ or link.__context__
    if any(isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT) for one in chain):
        return "disk_full"
    if any(type(one).__name__ == "OutOfMemoryError" for one in chain):  # torch's, of a GPU
        return "gpu_out_of_memory"
    if type(error).__name__ == _PEER_LOST:
        return "killed"
    if any(isinstance(one, MemoryError) for one in chain):
        return "host_out_of_memory"
    if any("can't allocate memory" in str(one) for one in chain if isinstance(one, RuntimeError)):
        return "host_out_of_memory"
    if isinstance(error, MemscaleError) and not isinstance(error, RecordError):
        return "bad_config"
    return "error"


def _frames(error: BaseException) -> str:
    """The traceback as `file:line` steps and the kind of error: alike for the same fault in another run."""
    steps = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return " > ".join([*steps, type(error).__name__])


def _redirect(log: Path) -> None:
    """Send this process's output, and that of the libraries under it, to the attempt's log."""
    descriptor = open_to_append(log)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
