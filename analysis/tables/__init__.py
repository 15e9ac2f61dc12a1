"""Tables of any origin as observations for fits: columns by letter, the rows they came from, and what was left out."""

from analysis.tables.columns import ColumnMap
from analysis.tables.file import read
from analysis.tables.filters import Filters
from analysis.tables.frames import TableLike
from analysis.tables.from_results import observe_results
from analysis.tables.observations import Exclusion, Observations
from analysis.tables.options import TableOptions
from analysis.tables.results import read_results
from analysis.tables.selection import observe

__all__ = [
    "ColumnMap", "Exclusion", "Filters", "Observations", "TableLike", "TableOptions", "observe", "observe_results",
    "read", "read_results",
]  # fmt: skip
