"""The report of a sweep's results: figures, a card for machines and one page; `report` writes all of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import TableError

if TYPE_CHECKING:
    from analysis.report.build import ReportPaths


def report(table: str | Path, out: str | Path, *, question: str = "", sweep: str = "") -> ReportPaths:
    """Write the report of a sweep's results table: `report.html`, `analysis.json` and `figures/`.

    The page opens with the answer by a rule fixed beforehand, then shows every gain with its 95 % interval, the laws,
    what was held equal and what was left out. The JSON holds every number with all its digits. The same table gives
    the same bytes.

    Args:
        table: A results table as `memscale results` writes it, .parquet or .csv.
        out: The folder to write into; files of an earlier report there are replaced.
        question: The question of the sweep, shown above the answer.
        sweep: The name of the sweep; by default the table's own.

    Returns:
        Where everything was written, and the sentence that the report opens with.

    Raises:
        AnalysisError: The table cannot be used, or the folder cannot be written.

    Example:
        >>> import tempfile, pandas as pd
        >>> runs = pd.DataFrame({"stage": "compare", "status": "done", "family": ["dense", "memory"] * 4,
        ...     "seed": [0, 0, 1, 1] * 2, "budget_flops": [1e15] * 4 + [1e16] * 4,
        ...     "flops_train": [1e15] * 4 + [1e16] * 4,
        ...     "loss_nats": [3.60, 3.40, 3.61, 3.41, 3.02, 2.85, 3.01, 2.86]})
        >>> folder = tempfile.mkdtemp()
        >>> runs.to_csv(f"{folder}/results.csv", index=False)
        >>> made = report(f"{folder}/results.csv", f"{folder}/report")
        >>> made.answer[:51]
        'At equal training compute, Memory reaches a lower l'
    """
    if not isinstance(table, str | Path):
        raise TableError(f"report reads a file: give the path of a results table; given {type(table).__name__}")
    from analysis.report.build import build  # figures need matplotlib, which takes most of the start

    return build(Path(table), Path(out), question=question, sweep=sweep)


__all__ = ["report"]
