"""How often a sweep's comparison was read, and with how many seeds: its file `looks.json`.

The file is written by the platform when a report is first built for a new set of seeds:
`{"format": 1, "looks": [{"seeds": [0, 1], "plan_hash": "...", "time": "..."}]}`. Other keys are left alone.

Refuses a file that is no such JSON, or of a newer format.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import TableError

NAME = "looks.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Looks:
    """The readings of a comparison, the present one last."""

    num_seeds: tuple[int, ...]
    """Of each reading, rising."""

    def now(self, num_seeds: int) -> Looks:
        """With the present reading, of `num_seeds` seeds: it is a new one only where it has more than all before it."""
        earlier = tuple(one for one in self.num_seeds if one < num_seeds)
        if len(earlier) < len(self.num_seeds) and num_seeds not in self.num_seeds:
            # Fewer seeds than were read before: some runs are not done, and the reading is that of the next number.
            return Looks(num_seeds=self.num_seeds[: len(earlier) + 1])
        return Looks(num_seeds=(*earlier, num_seeds))


def read_looks(path: Path) -> Looks | None:
    """The readings so far; None where there is no such file. Raises TableError."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found, looks = int(content["format"]), content["looks"]
        if found > FORMAT:
            raise TableError(f"{path} has format {found}, newer than {FORMAT}: use the version that wrote it")
        counts = sorted({len({int(seed) for seed in look["seeds"]}) for look in looks} - {0})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(
            f"{path} is not a list of readings ({type(error).__name__}: {error}); it holds"
            ' {"format": 1, "looks": [{"seeds": [0, 1]}]}. Mend it, or give the seeds of each reading with --looks'
        ) from None
    return Looks(num_seeds=tuple(counts)) if counts else None
