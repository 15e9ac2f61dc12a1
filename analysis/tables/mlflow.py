"""An MLflow experiment as a DataFrame: one row a run, its metrics (each's last value), parameters and tags as columns.

A column is named as MLflow's own search names it (`metrics.loss`, `params.width`, `tags.note`), and by the bare key
where only one of the three has it; `run_id`, `run_name` and `status` are always there. Reads page after page to the
end, since a search returns at most 1,000 runs at once. Rows are in the order in which the runs were started.

Refuses to guess a store (MLflow's default is a file in the current folder), a database that is
not there (MLflow would create it), and an environment without MLflow.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.errors import TableError
from analysis.tables.cells import MLFLOW, ROW
from analysis.tables.filters import PARENT
from analysis.tables.suggestion import suggestion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000
"""The most runs that a tracking server returns at once."""
LARGEST = 1.7e308
"""MLflow's databases hold an infinite metric as the largest number there is."""
SQLITE, SQLITE_MARK = "sqlite:///", b"SQLite format 3\0"


def read_experiment(experiment: str, *, tracking_uri: str | None = None) -> pd.DataFrame:
    """The runs of an experiment. `tracking_uri` falls back to MLFLOW_TRACKING_URI. Raises TableError."""
    uri = _uri(tracking_uri)
    client, failure = _client(uri)
    shown = re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", uri)
    try:
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = sorted(str(one.name) for one in client.search_experiments())
            raise TableError(f"{shown} has no experiment '{experiment}'.{suggestion(experiment, names)}")
        runs = list(_runs(client, str(found.experiment_id)))
    except failure as error:
        raise TableError(
            f"the experiment '{experiment}' at {shown} cannot be read: {str(error).splitlines()[0]}"
        ) from None
    if not runs:
        raise TableError(f"the experiment '{experiment}' at {shown} has no run yet")
    return _table(f"{MLFLOW}{experiment} at {shown}", runs)


def _uri(given: str | None) -> str:
    uri = given or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise TableError(
            "no MLflow store is named. Give --tracking-uri (sqlite:///<absolute path>, or http://host:port), or set"
            " MLFLOW_TRACKING_URI"
        )
    if uri.startswith(SQLITE):
        path = Path(uri.removeprefix(SQLITE))
        if not path.is_file():
            raise TableError(f"{uri}: there is no file {path}. An absolute path has four slashes: sqlite:////data/m.db")
        with open(path, "rb") as file:
            if file.read(len(SQLITE_MARK)) != SQLITE_MARK:
                raise TableError(f"{uri}: {path} is no SQLite database")
    return uri


def _client(uri: str) -> tuple[MlflowClient, type[Exception]]:
    """A client, and the class of its errors."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # A server that does not answer is a mistake in the address far more often than a passing fault.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ModuleNotFoundError as error:
        raise TableError(
            f"an MLflow experiment needs the package '{error.name}', which is not installed: pip install mlflow. Or"
            " give the runs as a .csv, .parquet or .jsonl file"
        ) from None
    try:
        return MlflowClient(tracking_uri=uri), MlflowException
    except MlflowException as error:
        raise TableError(f"MLflow cannot use {uri}: {str(error).splitlines()[0]}") from None


def _runs(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], max_results=PAGE, order_by=["attributes.start_time ASC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _table(name: str, runs: list[Run]) -> pd.DataFrame:
    parents = {run.data.tags.get("mlflow.parentRunId") for run in runs}
    head = pd.DataFrame(
        {
            "run_id": [run.info.run_id for run in runs],
            "run_name": [run.info.run_name for run in runs],
            # A run that only groups others has the status of a run, and nothing to be fitted.
            "status": [
                PARENT if run.info.run_id in parents and not run.data.metrics else str(run.info.status) for run in runs
            ],
        }
    )
    metrics = pd.DataFrame([run.data.metrics for run in runs])
    kinds = {
        "metrics": metrics.mask(metrics >= LARGEST, math.inf).mask(metrics <= -LARGEST, -math.inf),
        "params": pd.DataFrame([run.data.params for run in runs]),
        "tags": pd.DataFrame([run.data.tags for run in runs]),
    }
    uses = Counter(key for kind in kinds.values() for key in kind)
    bare = [kind[[key for key in kind if uses[key] == 1 and key not in head]] for kind in kinds.values()]
    table = pd.concat([head, *bare, *(kind.add_prefix(f"{word}.") for word, kind in kinds.items())], axis=1)
    table.index = pd.RangeIndex(1, len(runs) + 1, name=ROW)
    table.attrs = {"source": name, "sha256": "", "kind": "mlflow"}
    return table
