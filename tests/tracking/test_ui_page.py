"""The real MLflow UI over a synced store, loaded in headless Chromium: what a person would see is in the page.

Set MEMSCALE_SCREENSHOTS to a folder to keep pictures of the pages.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sweep_files
from mlflow import MlflowClient

from memscale.tracking.mirror import sync
from memscale.tracking.store import TrackingError, resolve
from memscale.tracking.ui import open_ui, server_command

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=2200,1300"),
)
STARTING_SECONDS = 600.0
SHOWING_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Server:
    base: str
    view: str
    """The address that `open_ui` printed for the sweep."""
    runs_root: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`open_ui` as a person starts it, over three done runs."""
    runs_root, port = tmp_path_factory.mktemp("ui") / "runs", free_port()
    sweep_files.finished_sweep(runs_root / "demo", num_runs=3)
    script = "import sys, pathlib, memscale.tracking.ui as ui; ui.open_ui(pathlib.Path(sys.argv[1]), int(sys.argv[2]))"
    log = runs_root / "log.txt"
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(runs_root / "demo"), str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        (view,) = re.findall(r"demo: 3 runs, \d+ new points\nMLflow UI: (http\S+)", log.read_text())
        yield Server(base=f"http://127.0.0.1:{port}", view=view, runs_root=runs_root)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=300)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError(f"the UI did not start in {STARTING_SECONDS} s:\n{log.read_text()}")


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
def test_the_table_shows_parent_children_and_their_metrics(server: Server, tmp_path: Path) -> None:
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
def test_the_parents_page_shows_question_state_and_children(server: Server, tmp_path: Path) -> None:
    synced = sync(server.runs_root / "demo")
    children = {"dense-1e13-s0", "memory_plus-1e13-s1", "dense-1e13-s2"}
    wanted = [sweep_files.QUESTION, "Finished", "memscale.runs_done"]
    url = f"{server.base}/#/experiments/{synced.experiment_id}/runs/{synced.parent_run_id}"
    texts = page(url, tmp_path, wanted, "parent")
    assert set(wanted) <= set(texts)
    assert children <= {text.rstrip(",") for text in texts}


@pytest.mark.slow
def test_a_childs_page_shows_its_metrics_and_params(server: Server, tmp_path: Path) -> None:
    synced = sync(server.runs_root / "demo")
    client = MlflowClient(synced.uri)
    assert synced.experiment_id is not None
    (child,) = client.search_runs([synced.experiment_id], "attributes.run_name = 'memory_plus-1e13-s1'")
    url = f"{server.base}/#/experiments/{synced.experiment_id}/runs/{child.info.run_id}"
    wanted = ["loss/code/bits_per_byte", "1.55", "train/loss", "architecture.memory.num_keys", "demo"]
    texts = page(url, tmp_path, wanted, "child")
    assert set(wanted) <= set(texts)


@pytest.mark.slow
def test_the_same_mirror_works_through_a_tracking_server(server: Server, tmp_path: Path) -> None:
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


def test_a_port_in_use_is_told(runs_root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(TrackingError, match="choose another"):
            open_ui(runs_root / "demo", taken.getsockname()[1])


def test_a_password_does_not_stand_in_the_command_line(tmp_path: Path) -> None:
    store = resolve(tmp_path, "postgresql://me:secret@db/mlflow")
    arguments, environment = server_command(store, 5000)
    assert "secret" not in " ".join(arguments)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == store.uri
