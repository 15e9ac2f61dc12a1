"""Tables of any origin as points for fits: columns by role, the rows they came from, and what was left out and why."""

from analysis.points.mlflow_runs import read_experiment
from analysis.points.of_results import of_results
from analysis.points.points import Exclusion, Points
from analysis.points.reading import read, take
from analysis.points.roles import Roles
from analysis.points.rules import Rules

__all__ = ["Exclusion", "Points", "Roles", "Rules", "of_results", "read", "read_experiment", "take"]
