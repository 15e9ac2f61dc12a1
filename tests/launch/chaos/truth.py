"""What `status` says, every few seconds, against what is so: who holds a lease, and who has a result."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from memscale.records.lease import is_held
from tests.sweeps import NAME, memscale

_PAUSE_SECONDS = 3.0
"""A status takes the machine about a second, which the sweep then lacks."""


class Sampler(threading.Thread):
    """Samples until `end` is set; what was untrue is in `lies`."""

    def __init__(self, runs: Path, more: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self._runs, self._more = runs, more
        self.end = threading.Event()
        self.samples = 0
        self.lies: list[str] = []

    def run(self) -> None:
        while not self.end.wait(_PAUSE_SECONDS):
            held, done = self._held(), self._done()
            told = memscale("status", NAME, "--json", runs=self._runs, more=self._more, check=False)
            if told.returncode not in (0, 3, 4):
                self.lies.append(f"status ended with {told.returncode}: {told.stderr[-500:]}")
                continue
            held_after, done_after = self._held(), self._done()
            self.samples += 1
            for run in json.loads(told.stdout)["runs"]:
                name, state = f"{run['name']}-{run['run_id']}", run["state"]
                if state == "running" and name not in held | held_after:
                    self.lies.append(f"{name} is said to be running, and nobody holds its lease")
                if state == "done" and name not in done_after:
                    self.lies.append(f"{name} is said to be done, and has no result")
                if state != "done" and name in done:
                    self.lies.append(f"{name} is said to be {state}, and is done")
                if name in held & held_after and name not in done_after and state != "running":
                    self.lies.append(f"{name} is said to be {state}, and somebody trains it")
                if state == "failed":
                    self.lies.append(f"{name} is said to have failed: {run['evidence']}")

    def _held(self) -> set[str]:
        return {path.parent.name for path in self._runs.glob(f"{NAME}/*/lease") if is_held(path)}

    def _done(self) -> set[str]:
        return {path.parent.name for path in self._runs.glob(f"{NAME}/*/result.json")}
