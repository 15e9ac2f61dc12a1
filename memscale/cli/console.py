"""Where the verbs print: as wide as the terminal, and wide enough for a table where there is none."""

from __future__ import annotations

from rich.console import Console

_WIDTH_WITHOUT_TERMINAL = 160


def console() -> Console:
    """A console that neither highlights numbers nor cuts a table in a log at 80 columns."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=_WIDTH_WITHOUT_TERMINAL)
