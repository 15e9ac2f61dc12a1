"""What the doctor finds, and that each finding says what it means: fakes stand for a SLURM that cannot be had here."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from memscale.cli.main import main
from memscale.doctor import file_system as files
from memscale.doctor.finding import Finding
from memscale.doctor.mlflow_store import mlflow_store
from memscale.doctor.slurm import slurm
from memscale.records.lease import Lease

CONFIG = """
AccountingStorageType   = accounting_storage/slurmdbd
JobRequeue              = 1
MaxArraySize            = 1001
PreemptMode             = REQUEUE
PreemptType             = preempt/partition_prio
"""


def fake(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def a_slurm(
    folder: Path, *, config: str = CONFIG, sacct: str | None = "exit 0", ping: str = "echo 'Slurmctld is UP'",
    sinfo: str = "echo 'main*|up|1-00:00:00|4|idle'",
) -> None:  # fmt: skip
    folder.mkdir(exist_ok=True)
    for name in ("sbatch", "squeue", "scancel", "srun"):
        fake(folder, name, "exit 0")
    fake(folder, "scontrol", f'if [ "$1" = ping ]; then {ping}; else cat <<END\n{config}\nEND\nfi')
    fake(folder, "sinfo", sinfo)
    if sacct is not None:
        fake(folder, "sacct", sacct)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which SLURM's commands are these alone."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'slurm'}:{tmp_path / 'base'}")
    base = tmp_path / "base"
    base.mkdir()
    for name in ("sh", "cat", "sleep"):
        (base / name).symlink_to(next(p for p in (Path("/bin") / name, Path("/usr/bin") / name) if p.exists()))
    return tmp_path / "slurm"


def looked_at(findings: list[Finding]) -> dict[str, str]:
    return {finding.what: finding.meaning for finding in findings if not finding.good}


def test_a_sound_slurm_has_nothing_to_look_at(commands: Path) -> None:
    a_slurm(commands)
    findings = list(slurm())
    assert looked_at(findings) == {}
    meanings = {finding.what: finding.meaning for finding in findings}
    assert meanings["MaxArraySize 1001"] == "arrays of up to 1000 runs"
    assert meanings["accounting"] == "sacct answers (slurmdbd)"
    assert meanings["partition main"] == "up, 4 of 4 nodes take jobs, at most 1-00:00:00 a job"


def test_without_sbatch_there_is_a_local_pool(commands: Path) -> None:
    del commands
    (finding,) = slurm()
    assert finding.good
    assert "local pool" in finding.meaning


@pytest.mark.parametrize(
    "change, what, means",
    [
        ({"sacct": None}, "sacct", "from the runs' own files and squeue alone"),
        ({"sacct": "echo 'Connection refused' >&2; exit 1"}, "accounting", "Connection refused.*is slurmdbd up"),
        ({"config": CONFIG.replace("slurmdbd", "none")}, "accounting", "keeps none"),
        ({"config": CONFIG.replace("JobRequeue              = 1", "JobRequeue = 0")}, "JobRequeue 0", "not requeued"),
        ({"config": CONFIG.replace("REQUEUE", "CANCEL")}, "preemption partition_prio, CANCEL", "cancelled"),
        ({"ping": "echo 'Slurmctld is DOWN'; exit 1"}, "controller", "DOWN.*local pool"),
        ({"sinfo": "echo 'main*|up|1:00|4|drain'"}, "partition main", "0 of 4 nodes.*4 drain.*sinfo -R"),
        ({"sinfo": "echo 'main*|up|1:00|4|idle*'"}, "partition main", "0 of 4 nodes"),
        ({"sinfo": "echo 'main*|down|1:00|4|idle'"}, "partition main", "down"),
    ],
)
def test_what_is_amiss_is_said_with_what_it_means(
    commands: Path, change: dict[str, str], what: str, means: str
) -> None:
    a_slurm(commands, **change)
    found = looked_at(list(slurm()))
    assert what in found
    assert re.search(means, found[what]), found[what]


def test_a_command_that_hangs_is_given_up(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_slurm(commands, sacct="sleep 30")
    monkeypatch.setattr("memscale.doctor.slurm._SECONDS", 0.5)
    assert "did not answer within 0.5 s" in looked_at(list(slurm()))["accounting"]


def test_the_file_system_of_the_tests_is_sound(tmp_path: Path) -> None:
    findings = list(files.file_system(tmp_path / "runs" / "not" / "there"))
    assert {finding.what for finding in findings if finding.good} >= {
        "renaming", f"locks in {tmp_path}", "clock of the file system",
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_locks_that_other_processes_do_not_see_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_held_elsewhere", lambda _probe: False)
    assert "two workers could train one run" in looked_at(list(files.file_system(tmp_path)))[f"locks in {tmp_path}"]


def test_another_process_sees_a_lease_that_is_held(tmp_path: Path) -> None:
    with Lease(tmp_path / "lease", "the test"):
        assert files._held_elsewhere(tmp_path / "lease")
    assert not files._held_elsewhere(tmp_path / "lease")


def test_a_clock_that_is_off_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    class Off:
        def __init__(self, path: Path) -> None:
            self.st_mtime = real(path).st_mtime + 90

    monkeypatch.setattr(Path, "stat", lambda self, **_: Off(self))
    finding = files._clock(tmp_path)
    assert not finding.good
    assert "+90 s" in finding.meaning
    assert "NTP" in finding.meaning


def test_a_store_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    (finding,) = mlflow_store(tmp_path)
    assert not finding.good
    assert "does not answer" in finding.meaning
    assert "mirrored once it answers" in finding.meaning
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (finding,) = mlflow_store(tmp_path)
    assert finding.good
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_words_or_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEMSCALE_RUNS", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["doctor"]) == 4
    assert "LOOK    store" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 4
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {finding["topic"] for finding in findings} == {"machine", "slurm", "files", "mlflow"}
