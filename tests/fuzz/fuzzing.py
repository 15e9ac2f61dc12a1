"""What every fuzzer shares: how many tries, a limit on each, and a command line in this process with what must hold."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

LONGEST_SECONDS = 5.0
MOST_LINES = 30
MULTIPLIER = float(os.environ.get("MEMSCALE_FUZZ", "1"))
"""1 in the tests; `make fuzz` sets it."""
SEED = int(os.environ.get("MEMSCALE_FUZZ_SEED", "14"))


class HangError(BaseException):
    """A try took longer than LONGEST_SECONDS; no `except Exception` catches it."""


@dataclass
class Tally:
    """What came of the tries of one fuzzer; it fails the test with every try that broke a rule."""

    name: str
    tries: int = 0
    accepted: int = 0
    slowest: float = 0.0
    broken: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """One try: an exception or a hang in it is a broken rule."""
        self.tries += 1
        begun = time.monotonic()
        try:
            with limited():
                yield
        except (Exception, HangError) as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            self.broken.append(f"{what[:300]}: {type(error).__name__}: {str(error)[:300]}")
        self.slowest = max(self.slowest, time.monotonic() - begun)

    def check(self, least_accepted: int = 0) -> None:
        """Print the figures, and fail if a rule was broken or the fuzzer never got past a refusal."""
        print(f"fuzz {self.name}: {self.tries:,} tries, {self.accepted:,} accepted, slowest {self.slowest:.2f} s")  # noqa: T201
        assert not self.broken, f"{len(self.broken)} of {self.tries} tries:\n" + "\n".join(self.broken[:40])
        assert self.accepted >= least_accepted, "nothing was accepted: the fuzzer looks at refusals only"


def number_of(short: int, long: int) -> int:
    """How many tries: `short` in the tests, `long` at MEMSCALE_FUZZ=100, in proportion between and beyond."""
    return round(short + (long - short) * (MULTIPLIER - 1) / 99)


def rng(name: str) -> random.Random:
    """The random numbers of one fuzzer."""
    return random.Random(f"{SEED} {name}")


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise HangError in what takes longer than LONGEST_SECONDS of this process's own time."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise HangError(f"more than {LONGEST_SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LONGEST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def command(main: Callable[[list[str]], int], arguments: Sequence[str]) -> tuple[int, str]:
    """Run a command line in this process; return its exit status and what it wrote to stderr.

    Raises AssertionError unless it ends well or with one screen that has no traceback.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(list(arguments))
        except SystemExit as stopped:  # argparse
            status = stopped.code if isinstance(stopped.code, int) else 1
    told = err.getvalue()
    assert status in (0, 2), f"exit status {status}: {told[-600:]}"
    assert "Traceback" not in told + out.getvalue(), told[-600:]
    assert status == 0 or told.strip(), "a refusal without a word"
    assert len(told.splitlines()) <= MOST_LINES, f"{len(told.splitlines())} lines"
    assert len(told) <= 20_000, f"{len(told)} characters"
    return status, told


def one_screen(told: str, of: str = "") -> None:
    """Raise AssertionError unless a message fits a screen and a terminal, and names the file `of`."""
    assert of in told, f"{of} is not named: {told[:200]}"
    assert 0 < len(told) < 3_000, f"a message of {len(told)} characters"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", told), "control characters in a message"


def listing(folder: Path) -> set[str]:
    """The paths below a folder, to see that nothing came or went."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
