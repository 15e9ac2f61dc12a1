"""The memory a run will have: asked of the machine, or named where the machine is another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memscale.config.launcher import Launcher
from memscale.errors import ConfigError
from memscale.launch.device_memory import device_memory_bytes, parse_bytes
from memscale.launch.workers import workers_for


@pytest.mark.parametrize(
    "text, expected",
    [("80G", 80 * 2**30), ("512M", 2**29), ("1.5 T", 1.5 * 2**40), ("64", 2**26), ("8GiB", 2**33), ("7gb", 7 * 2**30),]
)  # fmt: skip
def test_sizes_are_read_as_slurm_reads_them(text: str, expected: float) -> None:
    assert parse_bytes("launcher.memory", text) == expected


@pytest.mark.parametrize("text", ["", "G", "0G", "-1G", "80 gigs", "1e9"])
def test_other_sizes_are_refused_with_the_key(text: str) -> None:
    with pytest.raises(ConfigError, match=r"launcher\.device_memory is"):
        parse_bytes("launcher.device_memory", text)


def test_workers_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    one, four = (Launcher(name="local", workers=workers) for workers in (1, 4))
    whole = device_memory_bytes(one, workers_for(one, 1))
    assert whole is not None
    assert 0 < whole <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert device_memory_bytes(four, workers_for(four, 1)) == whole / 4


def test_gpus_are_asked_and_the_smallest_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text('#!/bin/sh\n[ "$1" = -L ] && printf "GPU 0: A\\nGPU 1: B\\n" || printf "81559\\n40960\\n"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    launcher = Launcher(name="local")
    workers = workers_for(launcher, 9)
    assert [worker.device for worker in workers] == ["cuda", "cuda"]
    assert device_memory_bytes(launcher, workers) == 40960 * 2**20


def test_on_slurm_a_node_is_only_known_by_name() -> None:
    gpus, cores = Launcher(name="slurm"), Launcher(name="slurm", gpus_per_run=0, memory="32G")
    named = Launcher(name="slurm", device_memory="141G")
    assert device_memory_bytes(gpus, workers_for(gpus, 3)) is None
    assert device_memory_bytes(cores, workers_for(cores, 3)) == 32 * 2**30
    assert device_memory_bytes(named, workers_for(named, 3)) == 141 * 2**30
