"""Whether a launched sweep's prepared data are still what its runs were trained on, as far as a look can tell."""

from __future__ import annotations

from memscale.errors import RecordError
from memscale.records.layout import SweepPaths
from memscale.records.plan_file import PlanFile


def data_changed(paths: SweepPaths, plan: PlanFile) -> str:
    """Return which file of the data was changed since it was verified, and what to do; '' where none was."""
    from memscale.data.verification import what_changed

    try:
        changed = (what_changed(paths.data(folder)) for folder in plan.data_folders)
        return next((what for what in changed if what), "")
    except RecordError as error:  # the plan names no folder of data
        return str(error)
    except PermissionError:  # a reader of the sweep may not look at its data, and cannot tell
        return ""
