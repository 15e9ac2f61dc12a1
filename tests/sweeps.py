"""A sweep small enough for tests, through the real command line."""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAME = "memory_vs_moe"
STORE = "mlflow.db"

_SMALL = (
    "data=text_files",
    "data.tokenizer.vocab_size=300",
    "data.tokenizer.train_bytes=50000",
    "data.validation_tokens=2048",
    "scale.sequence_length=32",
    "scale.batch_tokens=256",
    "matching.total_over_dense=3",
    "families.memory_plus.centred=1",
    "families.memory_plus.knn=4",
    "families.memory_plus.num_heads=2",
    "recipe.tune.learning_rates=[0.01]",
    "recipe.tune.table_factors=[1]",
    "evaluate.validations=2",
    "launcher.workers=2",
    "launcher.checkpoint_seconds=0.2",
)


FEWER = ("evaluate.tasks=[]",)
"""Runs that are not evaluated: for tests of what happens around a run. An evaluation costs a run's process as much as
its training here."""


def small_sweep(files: str, *, flops: str = "[2e9,4e9]", seeds: str = "[0,1]", more: tuple[str, ...] = ()) -> list[str]:
    """Overrides of `memory_vs_moe` on the text `files`: tiny models, a few steps each."""
    budgets = ",".join(
        f"{{flops:{value},d_model:32,num_layers:2,num_heads:2}}" for value in flops.strip("[]").split(",")
    )
    return [*_SMALL, f"data.files={files}", f"scale.budgets=[{budgets}]", f"scale.seeds={seeds}", *more]


def write_text(folder: Path) -> str:
    """Real text, this Python's own `argparse` and `random` modules, as some .txt files; return their pattern."""
    for module in (argparse, random):
        source = Path(module.__file__).read_text()
        for part in range(6):
            (folder / f"{module.__name__}-{part}.txt").write_text(source[part * 4000 : (part + 1) * 4000 + 2000])
    return f"{folder}/*.txt"


def memscale(
    *arguments: str, runs: Path, check: bool = True, more: Mapping[str, str] | None = None, code: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run `memscale ...` in the folder `code` with its runs in `runs`, and `more` in its environment."""
    if arguments[0] == "sweep":
        _put_store(runs)
    command = [sys.executable, "-m", "memscale.cli.main", *arguments]
    given = {**environment(runs), **(more or {})}
    done = subprocess.run(command, cwd=code, env=given, capture_output=True, text=True, timeout=1800, check=False)
    if check:
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def _put_store(runs: Path) -> None:
    """Put an empty MLflow database where the sweep would make it: the tables alone take MLflow some nine seconds.

    One is made for each session of pytest and copied (`tests/tracking` makes them anew, and so does every other user).
    """
    if (runs / STORE).exists():
        return
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    made = Path(tempfile.gettempdir()) / f"memscale-store-{session}"
    made.mkdir(exist_ok=True)
    with open(made / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / STORE).exists():
            command = [sys.executable, "-m", "memscale.tracking", "--create"]
            subprocess.run(command, cwd=ROOT, env=environment(made), check=True, timeout=600)
    runs.mkdir(parents=True, exist_ok=True)
    shutil.copy(made / STORE, runs / STORE)


def environment(runs: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MEMSCALE_", "MLFLOW_"))}
    return {**kept, "MEMSCALE_RUNS": str(runs), "OMP_NUM_THREADS": "1"}


def final_weights(runs: Path) -> dict[str, bytes]:
    """The final weights of every run, by its folder's name."""
    final: dict[str, bytes] = {}
    for folder in sorted(runs.glob(f"{NAME}/*/checkpoints")):
        last = max(folder.glob("step-*"), key=lambda path: int(path.name.split("-")[1]))
        (file,) = last.glob("model*.safetensors")
        final[folder.parent.name] = file.read_bytes()
    return final


def start(*arguments: str, runs: Path) -> subprocess.Popen[bytes]:
    """Start `memscale ...` in a process group of its own, its output in `runs`/out.txt."""
    runs.mkdir(parents=True, exist_ok=True)
    if arguments[0] == "sweep":
        _put_store(runs)
    with open(runs / "out.txt", "ab") as out:
        command = [sys.executable, "-m", "memscale.cli.main", *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment(runs), stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            start_new_session=True, preexec_fn=_hear_signals,
        )  # fmt: skip


def _hear_signals() -> None:
    """Take the default for what a terminal sends, also where the tests run under nohup."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for(what: str, condition, seconds: float = 600.0):
    """Poll until `condition()` is truthy; return it. What takes long to ask is asked a quarter of the time at most."""
    until = time.monotonic() + seconds
    while (begun := time.monotonic()) < until:
        value = condition()
        if value:
            return value
        time.sleep(max(0.02, 3 * (time.monotonic() - begun)))
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """kill -9 the whole process group that `start` made."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
