"""The closest name to one that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

LISTED = 30
"""Longest list of names in an error."""


def suggestion(given: str, names: Sequence[str]) -> str:
    """The closest name, and all there are, as the end of an error."""
    folded = {name.lower(): name for name in names}
    close = difflib.get_close_matches(given.lower(), list(folded), n=1, cutoff=0.6)
    hint = f" Did you mean '{folded[close[0]]}'?" if close else ""
    listed = ", ".join(f"'{name}'" for name in names[:LISTED])
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{hint} It has: {listed}{more}"
