"""What `memscale plan` forecast for the shipped sweeps, and how long each took: a table of its own, not of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis import formatting
from analysis.errors import TableError
from analysis.findings.finding import Answer, Finding, PageTable
from analysis.findings.words import share
from analysis.tables import read

COLUMNS = ("sweep", "machine", "forecast_seconds", "measured_seconds")
WITHIN = 0.25


def answer(tables: Sequence[Path]) -> Answer:
    """The ratio of fact to forecast of each sweep."""
    rows, good = [], 0
    for path in tables:
        table = read(path, text=COLUMNS[:2])
        missing = [name for name in COLUMNS if name not in table.columns]
        if missing:
            raise TableError(f"{path} has no column {missing[0]}; it needs {', '.join(COLUMNS)}")
        for sweep, machine, planned, taken in table[list(COLUMNS)].itertuples(index=False):
            ratio = float(taken) / float(planned)
            good += abs(ratio - 1.0) <= WITHIN
            times = (formatting.duration(float(planned)), formatting.duration(float(taken)))
            rows.append((str(sweep), str(machine), *times, f"{100 * (ratio - 1):+.0f} %"))
    if not rows:
        raise TableError(f"{tables[0]} has no row; each is a sweep that was run whole")
    bad = [f"{row[0]} on {row[1]} took {row[4]} against its forecast." for row in rows if abs(float(row[4][:-2])) > 25]
    return Answer(
        sentences=(
            f"The time of the sweep lies within 25 % of its forecast in {share(good, len(rows))} of the sweeps.",
        ),
        tables=(PageTable(head=("sweep", "machine", "forecast", "measured", "difference"), rows=tuple(rows)),),
        failed=tuple(bad),
    )


FINDING = Finding(
    key="forecast",
    title="Forecast against fact",
    question="Does a sweep take as long as `memscale plan` says?",
    rule="Each shipped sweep at laptop scale is run whole once, from its plan to its report, on a machine that does"
    " nothing else. The forecast is the one shown before the first run. The aim: within 25 % for every sweep.",
    sweep="forecast",
    answer=answer,
    table_from="Write a table `forecast.csv` beside the others with the columns "
    + ", ".join(f"`{name}`" for name in COLUMNS),
)
