"""A real MLflow store read as points: page after page, by the names MLflow uses, parents and failures left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from analysis.errors import TableError
from analysis.tables import ColumnMap, Filters, mlflow, observe
from analysis.tables.mlflow import read_experiment

pytest.importorskip("mlflow")

COLUMNS = ColumnMap(loss="metrics.loss", params="N", tokens="params.D")
NUM_RUNS = 25


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An experiment of 25 finished runs under a parent, one failed run, and one that is too good to be true."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    address = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=address)
    experiment = client.create_experiment("widths")
    client.create_experiment("lengths")
    parent = client.create_run(experiment, run_name="all", start_time=1)
    client.set_terminated(parent.info.run_id)
    for number in range(1, NUM_RUNS + 3):
        run = client.create_run(experiment, run_name=f"run-{number}", start_time=1 + number).info.run_id
        loss = float("inf") if number == NUM_RUNS + 2 else 4 - 0.01 * number
        client.log_batch(
            run,
            metrics=[Metric("loss", 9.0, 0, 0), Metric("loss", loss, 1, 1)],
            params=[Param("N", f"{number}e6"), Param("D", "1e9")],
            tags=[RunTag("mlflow.parentRunId", parent.info.run_id), RunTag("D", "no number")],
        )
        client.set_terminated(run, "FAILED" if number > NUM_RUNS else "FINISHED")
    return address


def test_all_pages_are_read(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "PAGE", 7)
    points = observe(read_experiment("widths", tracking_uri=uri), COLUMNS)
    assert points.columns["N"].tolist() == [number * 1e6 for number in range(1, NUM_RUNS + 1)]
    assert points.loss.tolist() == [4 - 0.01 * number for number in range(1, NUM_RUNS + 1)]
    reasons = {one.row: one.reason for one in points.exclusions}
    assert reasons[1] == "it only groups other runs"
    assert reasons[NUM_RUNS + 2].startswith("failed")
    assert set(reasons) == {1, NUM_RUNS + 2, NUM_RUNS + 3}


def test_columns_are_named_as_mlflow_names_them(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    table = read_experiment("widths")
    assert {"loss", "metrics.loss", "N", "params.N", "params.D", "tags.D", "status"} <= set(table.columns)
    assert "D" not in table.columns  # a parameter and a tag: which one is for the caller to say
    with pytest.raises(TableError, match=r"row 2 \(run 'run-1', [0-9a-f]{32}\), column 'tags.D': 'no number' is text"):
        observe(read_experiment("widths"), ColumnMap(loss="loss", params="N", tokens="tags.D"))
    with pytest.raises(TableError, match=rf"row {NUM_RUNS + 3} .*column 'loss': it is infinite"):
        observe(read_experiment("widths"), ColumnMap(loss="loss", status=None), Filters(where="run_name != 'all'"))


@pytest.mark.parametrize(
    "experiment, address, said",
    [
        ("width", "URI", r"no experiment 'width'. Did you mean 'widths'\? It has: 'Default', 'lengths', 'widths'"),
        ("lengths", "URI", "has no run yet"),
        ("widths", None, "no MLflow store is named. Give --tracking-uri"),
        ("widths", "sqlite:////nowhere/mlflow.db", "there is no file /nowhere/mlflow.db"),
        ("widths", "THIS", "is no SQLite database"),
        ("widths", "http://127.0.0.1:9", "cannot be read"),
        ("widths", "ftp://somewhere", "cannot use ftp://somewhere|cannot be read"),
    ],
)
@pytest.mark.slow
def test_wrong_names_and_places_are_refused(
    uri: str, monkeypatch: pytest.MonkeyPatch, experiment: str, address: str | None, said: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    known = {"URI": uri, "THIS": f"sqlite:///{Path(__file__).absolute()}"}
    with pytest.raises(TableError, match=said):
        read_experiment(experiment, tracking_uri=known.get(address or "", address))


def test_without_mlflow_the_message_says_what_to_install(uri: str) -> None:
    code = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from analysis.tables.mlflow import read_experiment\n"
        f"try: read_experiment('widths', tracking_uri={uri!r})\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs the package 'mlflow'" in done.stdout
    assert "pip install mlflow" in done.stdout
