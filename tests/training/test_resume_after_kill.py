"""kill -9 at random moments: the run that is taken up again ends with the same bits and no step twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from train_subprocess import attempt

from memscale.records.layout import RunPaths
from memscale.records.metrics import read_metrics
from memscale.training.checkpoint_files import numbered

NUM_STEPS = 60
NUM_KILLS = 6

# Children fork from a server that has imported what takes seconds (torch imports the last two when a model is built
# from the meta device): true processes, without the wait.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["memscale.training.trainer", "pytest", "torch._dynamo", "sympy"])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: waiting for a disk protects from power cuts, not from kills."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        yield Path(memory)


def start(data_folder: Path, root: Path, family: str) -> BaseProcess:
    process = PROCESSES.Process(target=attempt, args=(data_folder, root, family, NUM_STEPS))
    process.start()
    return process


def newest_step(root: Path) -> int:
    return max((step for step, _ in numbered(RunPaths(root).checkpoints)), default=0)


def content(root: Path) -> tuple[dict[str, str], list[tuple[int, str, str, float]]]:
    """Sums of the final weights with their buffers and of the moments, and all metrics but their times."""
    final = RunPaths(root).checkpoints / f"step-{NUM_STEPS}" / "manifest.json"
    sums = json.loads(final.read_text())["sha256"]
    del sums["state.json"]  # holds seconds
    return sums, [(m.step, m.split, m.name, m.value) for m in read_metrics(RunPaths(root).metrics)]


@pytest.mark.parametrize(
    "family", ["dense", "moe", "memory_plus_averaged", "moe_bias_averaged", "memory_ultramem", "looped"]
)
@pytest.mark.slow
def test_killed_again_and_again_ends_as_if_undisturbed(folder: Path, data_folder: Path, family: str) -> None:
    undisturbed, disturbed = folder / "undisturbed", folder / "disturbed"
    process = start(data_folder, undisturbed, family)
    process.join()
    assert process.exitcode == 0

    chance = random.Random(family)
    killed_at = []
    for _ in range(NUM_KILLS):
        before = newest_step(disturbed)
        process = start(data_folder, disturbed, family)
        while newest_step(disturbed) <= before and process.is_alive():
            time.sleep(0.001)
        time.sleep(chance.uniform(0.0, 0.08))
        process.kill()
        process.join()
        killed_at.append(newest_step(disturbed))
        if process.exitcode != -signal.SIGKILL:
            break
    process = start(data_folder, disturbed, family)
    process.join()
    assert process.exitcode == 0

    assert len([step for step in killed_at if 0 < step < NUM_STEPS]) >= 3, killed_at
    sums, metrics = content(disturbed)
    assert (sums, metrics) == content(undisturbed)
    assert max(Counter((step, split, name) for step, split, name, _ in metrics).values()) == 1
    assert not list(RunPaths(disturbed).checkpoints.glob(".*"))
