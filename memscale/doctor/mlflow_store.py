"""The MLflow store that runs would be mirrored into: where it is, and whether it answers. Makes and changes nothing."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from memscale.doctor.finding import Finding


def mlflow_store(root: Path) -> Iterator[Finding]:
    """Check whether MLflow's store can be opened, beside the runs or at its URI."""
    if importlib.util.find_spec("mlflow") is None:
        return  # its package has a finding of its own
    from memscale.tracking.store import TrackingError, check, resolve

    try:
        store = resolve(root)
        if store.own is not None and not store.own.exists():
            yield _finding(True, f"store {store.shown}", "not there yet; the first run makes it")
            return
        check(store)
    except TrackingError as error:
        yield _finding(False, "store", f"{error}. Runs go on without it, and are mirrored once it answers")
        return
    yield _finding(True, f"store {store.shown}", "answers" if store.own is None else "is a whole database")


def _finding(good: bool, what: str, meaning: str) -> Finding:
    return Finding(topic="mlflow", good=good, what=what, meaning=meaning)
