"""A sweep on a real SLURM, through everything that can happen to it, ends as an undisturbed one.

MEMSCALE_CHAOS_SEEDS=10 (`make chaos SEEDS=10`) goes through all faults for ten orders; the default is one short order.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
from pathlib import Path

import pytest

from memscale.records.metrics import read_metrics
from tests.launch.chaos.faults import FAULTS, Fault, Site, launch_and_kill, victim
from tests.launch.chaos.truth import Sampler
from tests.launch.slurm_cluster import cluster, missing
from tests.sweeps import FEWER, NAME, final_weights, memscale, small_sweep, write_text

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or ""),
]

log = logging.getLogger(__name__)
SEEDS = int(os.environ.get("MEMSCALE_CHAOS_SEEDS", "0"))
_SHORT = 3
"""Faults of the default."""
_SPOKEN = ("done", "stopped", "preempted", "cancelled", "time_limit")
"""Causes of ends that an attempt wrote itself, when it ended."""
JOB = [
    "scale=laptop", "launcher=slurm", "launcher.cpus_per_run=1", "launcher.gpus_per_run=0", "launcher.memory=900M",
    "launcher.minutes=10", "launcher.stop_seconds=55", "launcher.check_minutes=0.15", "launcher.grace_seconds=20",
    "launcher.checkpoint_seconds=0.5",
]  # fmt: skip


def _sweep(text: str) -> list[str]:
    flops = "[2e11]" if SEEDS else "[2.5e10]"
    return small_sweep(text, flops=flops, seeds="[0]", more=FEWER)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    text = write_text(tmp_path_factory.mktemp("text"))
    runs = tmp_path_factory.mktemp("undisturbed")
    memscale("sweep", NAME, *_sweep(text), "launcher=local", runs=runs)
    return text, runs


@pytest.mark.parametrize("seed", range(SEEDS or 1))
def test_a_sweep_ends_as_if_nothing_had_happened(
    seed: int, undisturbed: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, expected = undisturbed
    drawn = random.Random(seed)
    faults = drawn.sample(FAULTS, len(FAULTS) if SEEDS else _SHORT)
    with cluster(tmp_path, nodes=4, slurmd_timeout=15) as given:
        more = {name: given[name] for name in given if name.startswith(("BOX_", "SLURM"))}
        overrides = [*_sweep(text), *JOB]
        site = Site(folder=tmp_path, runs=tmp_path / "runs", more=more, overrides=overrides, random=drawn)
        said = [launch_and_kill(site)]
        memscale("sweep", NAME, *overrides, runs=site.runs, more=more)
        for name, value in {**more, "MEMSCALE_RUNS": str(site.runs)}.items():
            monkeypatch.setenv(name, value)
        sampler = Sampler(site.runs)
        sampler.start()
        said += _disturb(site, faults)
        _wait_for_the_end(site, said)
        sampler.end.set()
        sampler.join(timeout=60)
    assert sampler.lies == [], said
    assert sampler.samples > 10
    assert final_weights(site.runs) == final_weights(expected), said
    assert _metrics(site.runs) == _metrics(expected), said  # so none is missing, and none there twice
    _check_attempts(site.runs)
    log.info("\n".join([f"seed {seed}:", *said, f"{sampler.samples} samples of status, all true"]))


def _disturb(site: Site, faults: list[Fault]) -> list[str]:
    """Do the faults, one after another, each to a run in mid-training."""
    said, left, until = [], list(faults), time.monotonic() + 1800
    while left and time.monotonic() < until and not (site.runs / NAME / "finished.json").exists():
        found = victim(site)
        if found is None:
            time.sleep(0.3)
            continue
        try:
            said.append(left[0](site, found))
            left.pop(0)
            log.info("%s of %s: %s", time.strftime("%H:%M:%S"), found.folder.name, said[-1])
        except (ProcessLookupError, FileNotFoundError):
            continue  # it ended meanwhile
        time.sleep(site.random.uniform(1, 5))
    return [*said, *(f"no victim was left for {fault.__name__}" for fault in left)]


def _wait_for_the_end(site: Site, said: list[str]) -> None:
    until = time.monotonic() + 1800
    while not (site.runs / NAME / "finished.json").exists():
        if time.monotonic() > until:
            told = memscale("status", NAME, runs=site.runs, more=site.more, check=False).stdout
            raise AssertionError(f"the sweep never ended: {said}\n{told}\n{site.slurm('squeue', '--array')}")
        time.sleep(1)


def _metrics(runs: Path) -> dict[str, list[tuple[int, int, str, str, float]]]:
    return {
        path.parent.name: [(one.step, one.tokens, one.split, one.name, one.value) for one in read_metrics(path)]
        for path in runs.glob(f"{NAME}/*/metrics.jsonl")
    }


def _check_attempts(runs: Path) -> None:
    """No two attempts of a run were at work at the same time, by what each wrote before it gave its lease back."""
    for run in runs.glob(f"{NAME}/*/result.json"):
        before = 0.0
        for attempt in sorted((run.parent / "attempts").iterdir(), key=lambda path: int(path.name)):
            outcome = json.loads((attempt / "outcome.json").read_text())
            assert json.loads((attempt / "submission.json").read_text())["started"] >= before - 0.01
            before = outcome["ended"] if outcome["cause"] in _SPOKEN else before
