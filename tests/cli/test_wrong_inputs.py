"""Wrong inputs through the real command line: a message on one screen, and nothing half-written."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.sweeps import FEWER, NAME, memscale, small_sweep, write_text


def _refused(runs: Path, *arguments: str) -> str:
    """Run `memscale sweep ...`, which must be refused before anything is trained; return what it says."""
    done = memscale("sweep", *arguments, runs=runs, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 25
    assert not list(runs.glob("*/*/run.json")), "a run was begun"
    assert not list(runs.glob("**/*.tmp")), "something was left half-written"
    return done.stderr


SHAPE = "d_model: 32, num_layers: 4, num_heads: 1"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["memory_vs_mo"], ["no sweep 'memory_vs_mo'", "Did you mean 'memory_vs_moe'"]),
        ([NAME, "recipe.clip_nrom=1"], ["clip_nrom", "Did you mean 'clip_norm'"]),
        ([NAME, "recipe.clip_norm=abc"], ["recipe.clip_norm", "'abc'", "a number"]),
        ([NAME, "scale.budgets.0.flops=0"], ["scale.budgets[0]", "flops", "is 0.0", "greater than zero"]),
        ([NAME, f"scale.budgets=[{{flops: 1e6, {SHAPE}}}]"], ["less than one batch", "Raise the budget"]),
        (
            [NAME, "data=facts_and_code", f"scale.budgets=[{{tokens: 1e5, {SHAPE}}}]", "matching.tolerance=1e-4"],
            ["no moe model is within", "larger shape"],
        ),
        ([NAME, "data=text_files", "data.files=/none/*.txt"], ["/none/*.txt"]),
        ([NAME, "evaluate.tasks=[facts_recal]"], ["facts_recal", "facts_recall"]),
    ],
)
def test_mistakes_are_told_before_anything_is_written(arguments: list[str], said: list[str], tmp_path: Path) -> None:
    told = _refused(tmp_path / "runs", *arguments)
    for part in said:
        assert part in told


def test_an_empty_file_and_too_little_text_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    assert "empty" in _refused(tmp_path / "runs", NAME, *small_sweep(str(empty)))
    short = tmp_path / "short.txt"
    short.write_text("too short to train on")
    assert "Give more text" in _refused(tmp_path / "runs", NAME, *small_sweep(str(short)))


def test_verbs_on_a_sweep_that_was_never_launched_say_so(tmp_path: Path) -> None:
    for verb in ("status", "results", "figures", "logs", "retry", "cancel", "watch"):
        done = memscale(verb, NAME, runs=tmp_path, check=False)
        assert done.returncode == 2
        assert "make sweep SWEEP=memory_vs_moe" in done.stderr
    assert "there is no verb" in memscale("swep", runs=tmp_path, check=False).stderr


@pytest.mark.slow
def test_a_full_disk_stops_the_sweep_with_one_message_and_it_goes_on_once_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("no right to mount a small tmpfs here")
    try:
        sweep = small_sweep(write_text(tmp_path), flops="[2e9]", seeds="[0]", more=FEWER)
        done = memscale("sweep", NAME, *sweep, runs=disk / "runs", check=False)
        assert done.returncode in (2, 4), done.stdout + done.stderr
        assert "no report yet: no run has a result; see: make status" in done.stdout
        assert "disk" in done.stdout + done.stderr or "No space left" in done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        memscale("sweep", NAME, *sweep, runs=disk / "runs")
        assert memscale("status", NAME, runs=disk / "runs").returncode == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_checkpoints_that_are_all_corrupt_are_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    sweep = small_sweep(write_text(tmp_path), flops="[2e9]", seeds="[0]", more=FEWER)
    memscale("sweep", NAME, *sweep, runs=runs)
    (folder,) = runs.glob(f"{NAME}/dense-*")
    (folder / "result.json").unlink()
    for weights in folder.glob("checkpoints/*/*.safetensors"):
        content = bytearray(weights.read_bytes())
        content[-9] ^= 1
        weights.write_bytes(bytes(content))
    done = memscale("sweep", NAME, *sweep, runs=runs, check=False)
    assert done.returncode == 4
    assert "heckpoint" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    status = memscale("status", NAME, runs=runs, check=False)
    assert status.returncode == 4
    assert "SHA-256" in status.stdout
    assert "5 done" in status.stdout
