"""The shipped tables of noise: how far single runs stray, by scale, data, measure and budget (`sweeps/noise/*.csv`).

They are what a plan states its resolution from before anything was run, and what `resolve` chooses seeds by: read from
the sweeps folder, so that the same files give the same plan. A row says whether it was measured or assumed, and what it
rests on. Refuses a row that is not whole, with file and line.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from memscale.config.codec import from_plain
from memscale.config.ranges import Checked, OneOf, Prose, Range
from memscale.errors import ConfigError

MEASURED, ASSUMED = "measured", "assumed"
Strays = Annotated[float, Range(0, 1e9, "no measure strays further", above_low=True)]
PartOfVariance = Annotated[float, Range(0, 1, "it is a part of a variance")]


@dataclass(frozen=True, kw_only=True)
class NoiseRow(Checked):
    """The noise of one run in one measure: its standard deviation about the mean of its setting over seeds."""

    scale: str = ""
    """Name of the scale; '': any."""
    data: str = ""
    """Name of the data (`data.name`); '': any."""
    measure: str
    """A column of the results table."""
    series: str = ""
    """Name of the family or label of the series; '': all."""
    budget: str = ""
    """Name of the budget; '': all."""
    std: Strays
    """In the column's own unit: nats, shares, bits."""
    seed_share: PartOfVariance = 0.0
    """Part of the variance that all families of a seed share at a budget; it cancels in differences paired by seed."""
    series_share: PartOfVariance = 0.0
    """Part of the rest that the runs of one series and seed share over budgets; it does not average out over them."""
    degrees: Annotated[int, Range(0, 10**6, "no table has more runs")] = 0
    """Degrees of freedom that `std` was estimated with; 0: not known, or assumed."""
    basis: Annotated[str, OneOf((MEASURED, ASSUMED))]
    origin: Prose
    """What it rests on."""


def read_noise_tables(folder: Path) -> tuple[NoiseRow, ...]:
    """Read the tables of noise in `folder`/noise, in the order of the files' names; none where there is no such folder.

    Raises:
        ConfigError: A file is no table of noise; the message names its line.
    """
    return tuple(row for path in sorted((folder / "noise").glob("*.csv")) for row in _rows(path))


def _rows(path: Path) -> list[NoiseRow]:
    known = {field.name for field in fields(NoiseRow)}
    try:
        text = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a table of noise: {error}") from None
    reader = csv.DictReader(text)
    unknown = [name for name in reader.fieldnames or () if name not in known]
    if unknown or not reader.fieldnames:
        raise ConfigError(f"{path}: its columns must be of {', '.join(sorted(known))}; unknown: {', '.join(unknown)}")
    found = []
    for row in reader:
        plain: dict[str, Any] = {name: value for name, value in row.items() if name is not None and value}
        if None in row or not plain:
            raise ConfigError(f"{path}, line {reader.line_num}: it has not the columns of the first line")
        found.append(from_plain(NoiseRow, plain, f"line {reader.line_num}", lambda where: f"{path}, {where}"))
    return found
