"""The real MLflow UI over a synced store, loaded in headless Chromium: what a person would see is in the page.

Set MEMSCALE_SCREENSHOTS to a folder to keep pictures of the pages.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import sweep_files
from mlflow import MlflowClient
from ui_server import UiServer

from memscale.tracking.key import new_key
from memscale.tracking.mirror import sync
from memscale.tracking.store import TrackingError, resolve
from memscale.tracking.ui import open_ui, server_command
from tests.other_users import OtherUser, as_other_user

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=2200,1300"),
)
SHOWING_SECONDS = 60.0


def page(url: str, profile: Path, wanted: list[str], picture: str) -> list[str]:
    """The texts of the loaded page in order; loads it again until it shows what is `wanted`, for its data come late."""
    if CHROMIUM is None:
        pytest.skip("no chromium here (Debian: apt-get install chromium)")
    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", "--virtual-time-budget=60000"]
    deadline = time.monotonic() + SHOWING_SECONDS
    while True:
        dumped = subprocess.run([*command, "--dump-dom", url], capture_output=True, text=True, timeout=600, check=True)
        body = re.sub(r"(?s)<(style|script)\b.*?</\1>", "", dumped.stdout)
        texts = [html.unescape(text).strip() for text in re.split(r"<[^>]*>", body)]
        if set(wanted) <= set(texts) or time.monotonic() > deadline:
            break
    if "MEMSCALE_SCREENSHOTS" in os.environ:
        target = Path(os.environ["MEMSCALE_SCREENSHOTS"]).absolute() / f"{picture}.png"
        subprocess.run([*command, f"--screenshot={target}", url], capture_output=True, timeout=600, check=True)
    return [text for text in texts if text]


@pytest.mark.slow
def test_the_table_shows_parent_children_and_their_metrics(server: UiServer, tmp_path: Path) -> None:
    children = ["dense-1e13-s0", "memory_plus-1e13-s1", "dense-1e13-s2"]
    columns = ["loss/code/bits_per_byte", "loss/mixture/nats_per_token", "score/facts_recall/acc", "series"]
    values = ["1.5", "1.55", "1.6", "3.1", "3.2", "0.5", "memory_plus", "1e+13"]
    texts = page(server.view, tmp_path, ["demo", *children, *columns, *values], "table")
    assert texts.count("demo") >= 2  # the way back to the experiment, and the parent's row
    for wanted in (*children, *columns, *values):
        assert wanted in texts
    assert [text for text in texts if text in children] == children  # best first
    assert "matching runs" in " ".join(texts)
    assert not any("Error" in text for text in texts)


@pytest.mark.slow
def test_the_parents_page_shows_question_state_and_children(server: UiServer, tmp_path: Path) -> None:
    synced = sync(server.runs_root / "demo")
    children = {"dense-1e13-s0", "memory_plus-1e13-s1", "dense-1e13-s2"}
    wanted = [sweep_files.QUESTION, "Finished", "memscale.runs_done"]
    url = server.page(f"/experiments/{synced.experiment_id}/runs/{synced.parent_run_id}")
    texts = page(url, tmp_path, wanted, "parent")
    assert set(wanted) <= set(texts)
    assert children <= {text.rstrip(",") for text in texts}


@pytest.mark.slow
def test_a_childs_page_shows_its_metrics_and_params(server: UiServer, tmp_path: Path) -> None:
    synced = sync(server.runs_root / "demo")
    client = MlflowClient(synced.uri)
    assert synced.experiment_id is not None
    (child,) = client.search_runs([synced.experiment_id], "attributes.run_name = 'memory_plus-1e13-s1'")
    url = server.page(f"/experiments/{synced.experiment_id}/runs/{child.info.run_id}")
    wanted = ["loss/code/bits_per_byte", "1.55", "train/loss", "architecture.memory.num_keys", "demo"]
    texts = page(url, tmp_path, wanted, "child")
    assert set(wanted) <= set(texts)


@pytest.mark.slow
def test_the_same_mirror_works_through_a_tracking_server(
    server: UiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.key)
    root = tmp_path / "far"
    sweep_files.finished_sweep(root, num_runs=2)
    first = sync(root, uri=server.base)
    assert first.num_points > 0
    before = {run_id for run_id, _, _ in sweep_files.points(server.runs_root / "mlflow.db")}
    held = len(sweep_files.points(server.runs_root / "mlflow.db"))
    again = sync(root, uri=server.base)
    assert (again.num_points, again.parent_run_id) == (0, first.parent_run_id)
    assert {paths.name[-12:] for paths in root.iterdir()} <= before
    assert len(sweep_files.points(server.runs_root / "mlflow.db")) == held


PATHS = [
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/version"),
    ("GET", "/static-files/static/js/main.js"),
    ("GET", "/get-artifact?run_uuid=0&path=run.json"),
    ("GET", "/model-versions/get-artifact?name=a&version=1&path=b"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/demo"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/demo/x"),
    ("DELETE", "/ajax-api/2.0/mlflow-artifacts/artifacts/demo/x"),
    ("POST", "/api/2.0/mlflow/experiments/create"),
    ("POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=0&path=x"),
    ("GET", "/ajax-api/2.0/mlflow/experiments/search?max_results=1"),
    ("POST", "/graphql"),
    ("POST", "/v1/traces"),
    ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
    ("OPTIONS", "/ajax-api/2.0/mlflow/experiments/search"),
    ("GET", "/no/such/path"),
]


@pytest.mark.slow
@pytest.mark.parametrize("method, path", PATHS)
def test_without_the_key_every_path_is_refused(server: UiServer, method: str, path: str) -> None:
    body = b"{}" if method in ("POST", "PUT") else None
    for key in (None, "", new_key()):
        status, said = server.ask(path, method=method, body=body, key=key)
        assert status == 401
        assert b"make ui" in said
    joined = path + ("&" if "?" in path else "?")
    assert server.ask(f"{joined}token={new_key()}", method=method, body=body)[0] == 401
    assert server.ask(path, method=method, body=body, Cookie=f"memscale-ui={new_key()}")[0] == 401


@pytest.mark.slow
def test_with_the_key_it_is_mlflow(server: UiServer) -> None:
    assert server.ask("/health", key=server.key) == (200, b"OK")
    status, found = server.ask("/ajax-api/2.0/mlflow/experiments/search?max_results=10", key=server.key)
    assert status == 200
    assert "demo" in [one["name"] for one in json.loads(found)["experiments"]]


@pytest.mark.slow
def test_artifacts_lie_in_the_one_folder(server: UiServer, tmp_path: Path) -> None:
    """What another user of a login node did while `make ui` ran, here even by somebody who has the key."""
    (tmp_path / "id_rsa").write_text("PRIVATE KEY")

    def post(path: str, **content: object) -> Any:
        status, said = server.ask(
            f"/api/2.0/mlflow/{path}", method="POST", body=json.dumps(content).encode(), key=server.key,
            **{"Content-Type": "application/json"},
        )  # fmt: skip
        assert status == 200, said
        return json.loads(said)

    for number, location in enumerate([tmp_path.as_uri(), str(tmp_path), f"{server.runs_root}/mlartifacts/../.."]):
        experiment = post("experiments/create", name=f"thief {number}", artifact_location=location)["experiment_id"]
        run = post("runs/create", experiment_id=experiment)["run"]["info"]
        folder = Path(run["artifact_uri"].removeprefix("file://"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "id_rsa").write_text("PRIVATE KEY")
        status, said = server.ask(f"/get-artifact?run_uuid={run['run_id']}&path=id_rsa", key=server.key)
        assert (status, b"PRIVATE" in said) == (403, False), said
        listed = server.ask(f"/api/2.0/mlflow/artifacts/list?run_id={run['run_id']}", key=server.key)
        assert (listed[0], b"id_rsa" in listed[1]) == (403, False)
        put = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run['run_id']}&path=authorized_keys"
        octets = {"Content-Type": "application/octet-stream"}
        assert server.ask(put, method="POST", body=b"ssh-rsa mine", key=server.key, **octets)[0] == 403
        assert not list(tmp_path.rglob("authorized_keys"))


@pytest.mark.slow
def test_an_artifact_of_a_run_is_shown(server: UiServer) -> None:
    status, found = server.ask("/ajax-api/2.0/mlflow/experiments/get-by-name?experiment_name=demo", key=server.key)
    assert status == 200
    experiment = json.loads(found)["experiment"]["experiment_id"]
    body = json.dumps({"experiment_ids": [experiment], "filter": "tags.`memscale.role` = 'run'"}).encode()
    headers = {"Content-Type": "application/json"}
    status, found = server.ask("/api/2.0/mlflow/runs/search", method="POST", body=body, key=server.key, **headers)
    run = json.loads(found)["runs"][0]["info"]["run_id"]
    status, said = server.ask(f"/get-artifact?run_uuid={run}&path=run.json", key=server.key)
    assert (status, json.loads(said)["sweep"]) == (200, "demo")


@pytest.mark.slow
def test_another_user_finds_the_key_nowhere(server: UiServer, other_user: OtherUser) -> None:
    looked = as_other_user(other_user, "cat", f"/proc/{server.pid}/cmdline", f"/proc/{server.pid}/environ")
    assert server.key not in looked.stdout
    assert "memscale.tracking.serve" in looked.stdout
    tried = as_other_user(other_user, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{server.base}/health")
    if shutil.which("curl"):
        assert tried.stdout == "401"
    assert server.log.read_text().count(server.key) == 1  # what was printed for the person; nothing logs requests


def test_a_port_in_use_is_told(runs_root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(TrackingError, match="choose another"):
            open_ui(runs_root / "demo", taken.getsockname()[1])


def test_neither_password_nor_key_stands_in_the_command_line(tmp_path: Path) -> None:
    store = resolve(tmp_path, "postgresql://me:secret@db/mlflow")
    arguments, environment = server_command(store, 3, "the-key")
    assert "secret" not in " ".join(arguments)
    assert "the-key" not in " ".join(arguments)
    assert environment["_MLFLOW_SERVER_FILE_STORE"] == store.uri
