"""Where the verbs print: as wide as the terminal, and wide enough for a table where there is none."""

from __future__ import annotations

import shutil
import sys

from rich.console import Console

_WIDTH_WITHOUT_TERMINAL = 160


def console() -> Console:
    """Return a console that neither highlights numbers nor cuts a table in a log at 80 columns."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=_WIDTH_WITHOUT_TERMINAL)


class StandardOutput:
    """Writes progress to standard output: the live line renews itself on a terminal, and is one of many in a log."""

    @property
    def live_seconds(self) -> float:
        """Seconds between two live lines."""
        return 0.5 if sys.stdout.isatty() else 15.0

    def line(self, text: str) -> None:
        """Write a line that stays."""
        self._write(f"\r\x1b[2K{text}\n" if sys.stdout.isatty() else f"{text}\n")

    def live(self, text: str) -> None:
        """Write the live line."""
        width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be renewed in place
        self._write(f"\r\x1b[2K{text[:width]}" if sys.stdout.isatty() else f"{text}\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
