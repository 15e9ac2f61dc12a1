"""Whether a local sweep was asked to stop: by Ctrl-C, SIGTERM, a closed terminal, or a cancel file.

A second Ctrl-C does not wait for the workers, which leave by themselves. SIGHUP is left ignored where nohup made it so.
"""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any


@dataclass(kw_only=True)
class StopRequest:
    """A Ctrl-C, a SIGTERM, a terminal that is closed (SIGHUP) or a cancel file. Called, it returns which, or ''.

    Signals reach only the main thread; in another one, as of a server, the cancel file is all there is.
    """

    cancel_file: Path
    reason: str = ""
    _before: dict[int, Any] = field(default_factory=dict)

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
                    self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, _: FrameType | None) -> None:
        if self.reason and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: do not wait for the workers, they leave by themselves
        self.reason = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name

    def __call__(self) -> str:
        """Return why everything has to stop; '' to go on."""
        if not self.reason and self.cancel_file.exists():
            self.reason = self.cancel_file.read_text(encoding="utf-8").strip() or "memscale cancel"
        return self.reason
