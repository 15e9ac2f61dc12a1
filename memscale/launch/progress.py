"""Tells a person how far a sweep is: a line that renews itself on a terminal, a line now and then in a log."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memscale.planning.forecast import makespan
from memscale.records.attempts import Outcome
from memscale.records.heartbeat import Heartbeat, read_heartbeat
from memscale.records.layout import RunPaths

_TERMINAL_SECONDS = 0.5
_LOG_SECONDS = 15.0


@dataclass(kw_only=True)
class Reporter:
    """Reports to `stream`; knows how long each run was thought to take and learns from those that end."""

    num_workers: int
    paths: Mapping[str, RunPaths]
    """Of every run that is still to end in this stage."""
    expected: dict[str, float]
    """Seconds of each run, by name."""
    later_seconds: float
    """Expected seconds of the stages that follow."""
    num_total: int
    num_done: int
    begun: float
    """time.monotonic() when the sweep started."""
    _last: float = 0.0
    _ratio: float = 1.0

    def tick(self, running: Sequence[str]) -> None:
        live = sys.stdout.isatty()
        if time.monotonic() - self._last < (_TERMINAL_SECONDS if live else _LOG_SECONDS):
            return
        self._last = time.monotonic()
        line = self._line(running)
        width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be renewed in place
        sys.stdout.write(f"\r\x1b[2K{line[:width]}" if live else f"{line}\n")
        sys.stdout.flush()

    def ended(self, name: str, outcome: Outcome, again: str) -> None:
        """Say how a run ended, and learn its speed."""
        took = outcome.ended - outcome.started
        if outcome.cause in ("done", "diverged"):
            self.num_done += 1
            expected = self.expected.pop(name, took)
            self._ratio = 0.7 * self._ratio + 0.3 * took / max(expected, 1e-3)
        self.say(f"{self._clock()} {name} {outcome.cause} in {duration(took)}{self._detail(name, outcome)}{again}")

    def say(self, text: str) -> None:
        """Write a line of its own."""
        sys.stdout.write(f"\r\x1b[2K{text}\n" if sys.stdout.isatty() else f"{text}\n")
        sys.stdout.flush()

    def _detail(self, name: str, outcome: Outcome) -> str:
        if outcome.cause != "done":
            return f": {outcome.evidence}"
        heartbeat = read_heartbeat(self.paths[name].heartbeat) if name in self.paths else None
        loss = f", train loss {heartbeat.loss:.3f}" if heartbeat is not None and heartbeat.loss is not None else ""
        return f" ({self.num_done} of {self.num_total}{loss})"

    def _line(self, running: Sequence[str]) -> str:
        beats = {name: read_heartbeat(self.paths[name].heartbeat) for name in running}
        parts = [f"{name} {_percent(beat)}{_speed(beat)}" for name, beat in beats.items()]
        left = duration(self._seconds_left(beats))
        return f"{self._clock()} {self.num_done} of {self.num_total} done | {', '.join(parts)} | about {left} left"

    def _seconds_left(self, beats: Mapping[str, Heartbeat | None]) -> float:
        left = []
        for name, seconds in self.expected.items():
            beat = beats.get(name)
            share = 1 - (beat.step / beat.num_steps if beat is not None and beat.num_steps else 0.0)
            left.append(seconds * self._ratio * share)
        return makespan(left, self.num_workers) + self.later_seconds * self._ratio

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self.begun)
        return f"[{seconds // 60:02d}:{seconds % 60:02d}]"


def _percent(beat: Heartbeat | None) -> str:
    if beat is None or not beat.num_steps:
        return "starting"
    return "evaluating" if beat.phase == "evaluating" else f"{beat.step / beat.num_steps:.0%}"


def _speed(beat: Heartbeat | None) -> str:
    return f" {beat.tokens_per_second / 1000:.3g}k tok/s" if beat is not None and beat.tokens_per_second else ""


def duration(seconds: float) -> str:
    """Seconds for a person: 42 s, 8.5 min, 3.2 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"
