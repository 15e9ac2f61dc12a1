"""What `status` says, every few seconds, against what is so: who holds a lease, and who has a result."""

from __future__ import annotations

import threading
from pathlib import Path

from memscale import api
from memscale.errors import MemscaleError
from memscale.records.lease import is_held
from tests.sweeps import NAME

_PAUSE_SECONDS = 1.0


class Sampler(threading.Thread):
    """Samples until `end` is set; what was untrue is in `lies`. The environment names the runs and the cluster."""

    def __init__(self, runs: Path) -> None:
        super().__init__(daemon=True)
        self._runs = runs
        self.end = threading.Event()
        self.samples = 0
        self.lies: list[str] = []

    def run(self) -> None:
        while not self.end.wait(_PAUSE_SECONDS):
            held, done = self._held(), self._done()
            try:
                told = api.status(NAME)
            except MemscaleError as error:
                self.lies.append(f"there is no status: {error}")
                continue
            held_after, done_after = self._held(), self._done()
            self.samples += 1
            for line in told.runs:
                name, state = f"{line.row.name}-{line.row.run_id}", line.state.state
                if state == "running" and name not in held | held_after:
                    self.lies.append(f"{name} is said to be running, and nobody holds its lease")
                if state == "done" and name not in done_after:
                    self.lies.append(f"{name} is said to be done, and has no result")
                if state != "done" and name in done:
                    self.lies.append(f"{name} is said to be {state}, and is done")
                if name in held & held_after and name not in done_after and state != "running":
                    self.lies.append(f"{name} is said to be {state}, and somebody trains it")
                if state == "failed":
                    self.lies.append(f"{name} is said to have failed: {line.state.evidence}")

    def _held(self) -> set[str]:
        return {path.parent.name for path in self._runs.glob(f"{NAME}/*/lease") if is_held(path)}

    def _done(self) -> set[str]:
        return {path.parent.name for path in self._runs.glob(f"{NAME}/*/result.json")}
