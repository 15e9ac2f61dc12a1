"""How far a sweep is, as lines of text: a line that renews itself on a terminal, a line now and then in a log.

`Output` is where they go. The command line writes them to standard output; a notebook may pass its own, or SILENT.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from memscale.launch.costs import cost_of, known_speeds
from memscale.launch.formatting import duration
from memscale.launch.reconcile import EndedAttempt, Step
from memscale.launch.stages import is_done, run_paths
from memscale.launch.workers import WorkerSpec
from memscale.planning.forecast import makespan
from memscale.records.heartbeat import Heartbeat, read_heartbeat
from memscale.records.layout import RunPaths, SweepPaths


class Output(Protocol):
    """Where a person reads how far something is."""

    @property
    def live_seconds(self) -> float:
        """Seconds between two live lines."""

    def line(self, text: str) -> None:
        """Write a line that stays."""

    def live(self, text: str) -> None:
        """Write a line that the next one replaces, where that is possible."""


class Silent:
    """An output that writes nothing."""

    live_seconds = 3600.0

    def line(self, text: str) -> None:
        """Write nothing."""

    def live(self, text: str) -> None:
        """Write nothing."""


SILENT = Silent()


@dataclass(kw_only=True)
class Progress:
    """Reports the steps of a sweep on this machine; learns from runs that end how long the others will take."""

    output: Output
    paths: SweepPaths
    workers: Sequence[WorkerSpec]
    begun: float = field(default_factory=time.monotonic)
    """time.monotonic() when the sweep started."""
    folders: dict[str, RunPaths] = field(default_factory=dict)
    """Of the stage's runs that are still to end, by name."""
    expected: dict[str, float] = field(default_factory=dict)
    """Seconds of each of these runs."""
    later_seconds: float = 0.0
    """Expected seconds of the stages that follow."""
    num_total: int = 0
    num_done: int = 0
    _stage: str = ""
    _last: float = 0.0
    _ratio: float = 1.0

    def report(self, step: Step) -> None:
        """Write what a step found, and note what is left."""
        if step.stage != self._stage:
            self._stage = step.stage
            self._open(step)
        self.num_done = step.num_done
        for message in step.messages:
            self.output.line(message)
        for one in step.ended:
            self.ended(one, halted=bool(step.halted))

    def _open(self, step: Step) -> None:
        """Take the expected seconds of a stage's runs, and of the stages after it."""
        plan = step.plan
        speeds = known_speeds(self.workers, plan.sweep.launcher)
        left = {
            stage: [run for run in plan.stage(stage) if not is_done(self.paths, run)]
            for stage in plan.stages[plan.stages.index(step.stage) :]
        }
        seconds = {
            stage: {run.name: speeds.run_seconds(cost_of(plan.sweep, run, done=False)) for run in runs}
            for stage, runs in left.items()
        }
        self.expected = seconds.pop(step.stage)
        self.folders = {run.name: run_paths(self.paths, run) for run in left[step.stage]}
        self.later_seconds = sum(makespan(list(one.values()), len(self.workers)) for one in seconds.values())
        self.num_total = len(plan.runs)

    def tick(self, running: Sequence[str]) -> None:
        """Write the live line, at most once in the output's `live_seconds`. `running`: names of runs at work."""
        if time.monotonic() - self._last < self.output.live_seconds:
            return
        self._last = time.monotonic()
        self.output.live(self._line(running))

    def ended(self, attempt: EndedAttempt, *, halted: bool = False) -> None:
        """Write how an attempt ended, and learn from how long it took; a `halted` sweep tries nothing again."""
        name, outcome, decision = attempt.name, attempt.outcome, attempt.decision
        took = outcome.ended - outcome.started
        if outcome.cause in ("done", "diverged"):
            expected = self.expected.pop(name, took)
            self._ratio = 0.7 * self._ratio + 0.3 * took / max(expected, 1e-3)
        again = f"; tried again ({decision.reason})" if decision.again and not halted else ""
        text = f"{self._clock()} {name} {outcome.cause} in {duration(took)}{self._detail(attempt)}{again}"
        self.output.line(text)

    def _detail(self, attempt: EndedAttempt) -> str:
        if attempt.outcome.cause != "done":
            return f": {attempt.outcome.evidence}"
        folder = self.folders.get(attempt.name)
        beat = read_heartbeat(folder.heartbeat) if folder is not None else None
        loss = f", train loss {beat.loss:.3f}" if beat is not None and beat.loss is not None else ""
        return f" ({self.num_done} of {self.num_total}{loss})"

    def _line(self, running: Sequence[str]) -> str:
        beats = {name: read_heartbeat(self.folders[name].heartbeat) for name in running if name in self.folders}
        parts = [f"{name} {_percent(beat)}{_speed(beat)}" for name, beat in beats.items()]
        left = duration(self._seconds_left(beats))
        return f"{self._clock()} {self.num_done} of {self.num_total} done | {', '.join(parts)} | about {left} left"

    def _seconds_left(self, beats: Mapping[str, Heartbeat | None]) -> float:
        left = []
        for name, seconds in self.expected.items():
            beat = beats.get(name)
            share = 1 - (beat.step / beat.num_steps if beat is not None and beat.num_steps else 0.0)
            left.append(seconds * self._ratio * share)
        return makespan(left, len(self.workers)) + self.later_seconds * self._ratio

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self.begun)
        return f"[{seconds // 60:02d}:{seconds % 60:02d}]"


def _percent(beat: Heartbeat | None) -> str:
    if beat is None or not beat.num_steps:
        return "starting"
    return "evaluating" if beat.phase == "evaluating" else f"{beat.step / beat.num_steps:.0%}"


def _speed(beat: Heartbeat | None) -> str:
    return f" {beat.tokens_per_second / 1000:.3g}k tok/s" if beat is not None and beat.tokens_per_second else ""
