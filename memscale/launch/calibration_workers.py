"""The processes of a calibration, one a worker: each measures the same models at the same time as the others.

`python -m memscale.launch.calibration_workers` is such a process: it reads its work as JSON from standard input, and
answers a line a model.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from memscale.config.codec import from_plain
from memscale.config.run import Run
from memscale.errors import MemscaleError
from memscale.launch.workers import WorkerSpec
from memscale.records.layout import runs_root

MOST_SECONDS = 240.0
"""Models whose turn has not come by then are left out; those that matter most come first."""


@dataclass
class WorkerProcesses:
    """A process a worker; they end with the one that started them."""

    workers: Sequence[WorkerSpec]
    work: list[dict[str, Any]]
    seconds: float
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)
    _errors: list[IO[str]] = field(default_factory=list)
    _lines: queue.Queue[tuple[int, str]] = field(default_factory=queue.Queue)

    @property
    def count(self) -> int:
        """The number of processes."""
        return len(self.workers)

    def __enter__(self) -> WorkerProcesses:
        request = json.dumps(self.work)
        for number, worker in enumerate(self.workers):
            command = [sys.executable, "-m", "memscale.launch.calibration_workers", "--threads", str(worker.threads)]
            command += ["--device", worker.device, "--seconds", str(self.seconds), "--started", str(time.time())]
            errors = tempfile.TemporaryFile("w+", encoding="utf-8")
            process = subprocess.Popen(
                command, env=worker.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, encoding="utf-8", errors="replace",
            )  # fmt: skip
            self._processes.append(process)
            self._errors.append(errors)
            threading.Thread(target=self._read, args=(number, process, request), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for errors in self._errors:
            errors.close()

    def _read(self, number: int, process: subprocess.Popen[str], request: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has died; its error stream has the reason
        for line in process.stdout:
            self._lines.put((number, line))
        self._lines.put((number, ""))

    def answers(self) -> Iterator[dict[str, Any]]:
        """Messages of the child processes, until all have ended. Raises MemscaleError if a process dies."""
        open_ones = set(range(self.count))
        while open_ones:
            number, line = self._lines.get()
            if line:
                yield json.loads(line)
                continue
            open_ones.discard(number)
            process = self._processes[number]
            if process.wait() != 0:
                self._errors[number].seek(0)
                message = self._errors[number].read().strip().splitlines()
                raise MemscaleError(
                    f"the calibration of worker {number} ended with status {process.returncode}: "
                    f"{message[-1] if message else 'it wrote nothing'}"
                )


def main(arguments: list[str] | None = None) -> int:
    """A worker's process: reads its work from standard input and answers a line a model."""
    parser = argparse.ArgumentParser(prog="python -m memscale.launch.calibration_workers", description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--seconds", type=float, required=True, help="for each model")
    parser.add_argument("--started", type=float, required=True, help="Unix time at which this process was started")
    given = parser.parse_args(arguments)
    work = json.loads(sys.stdin.read())
    from memscale.training.calibration import measure_step
    from memscale.training.execution import Execution

    execution = Execution(device=given.device, threads=given.threads)
    start_seconds = time.time() - given.started
    for number, one in enumerate(work):
        if time.time() - given.started > MOST_SECONDS:
            break
        try:
            run = from_plain(Run, one["run"])
            measured = measure_step(
                run, execution, seconds=given.seconds, folder=runs_root(), save=one["save"]
            )  # fmt: skip
            answer: dict[str, Any] = {
                "seconds": measured.seconds,
                "build_seconds": measured.build_seconds,
                "checkpoint_seconds": measured.checkpoint_seconds,
            }
        except (MemscaleError, RuntimeError, MemoryError) as error:  # of one model; the others may well be measured
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        sys.stdout.write(json.dumps({"number": number, "start_seconds": start_seconds, **answer}) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
