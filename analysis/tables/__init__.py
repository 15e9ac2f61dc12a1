"""Tables of any origin as points for fits: columns by role, the rows they came from, and what was left out and why."""

from analysis.tables.columns import ColumnMap
from analysis.tables.filters import Filters
from analysis.tables.from_results import of_results
from analysis.tables.mlflow import read_experiment
from analysis.tables.points import Exclusion, Observations
from analysis.tables.select import read, take

__all__ = ["ColumnMap", "Exclusion", "Filters", "Observations", "of_results", "read", "read_experiment", "take"]
