"""SLURM's commands as executables that say what a test tells them, for what a real SLURM here cannot be made to do."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from memscale.launch.executor import JobRequest
from memscale.records.layout import RunPaths, SweepPaths

_SCRIPT = """#!{python}
import json, os, sys
name, folder = os.path.basename(sys.argv[0]), os.path.dirname(os.path.abspath(sys.argv[0]))
said = json.load(open(folder + "/said.json"))
with open(folder + "/calls.jsonl", "a") as calls:
    calls.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
if name == "sbatch":
    number = sum(json.loads(line)[0] == "sbatch" for line in open(folder + "/calls.jsonl"))
    print("Submitted batch job", 100 + number)
    sys.exit(0)
answer = said.get(name, "")
if name == "scontrol":
    answer = said.get("scontrol " + " ".join(sys.argv[-2:]), said.get("scontrol " + sys.argv[-1], None))
if answer is None:
    print(name + ": error: not for you", file=sys.stderr)
    sys.exit(1)
print(answer, end="\\n" if answer else "")
"""


class FakeSlurm:
    """Its commands are found before any others; `say` sets what they answer (None: they fail)."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, without: tuple[str, ...] = ()) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("sbatch", "squeue", "sacct", "scontrol", "scancel", "srun"):
            if name not in without:
                (folder / name).write_text(_SCRIPT.format(python=sys.executable))
                (folder / name).chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/nowhere")
        self._said: dict[str, str | None] = {}
        self.say({"squeue": "", "sacct": "", "scancel": "", "scontrol config": "MaxArraySize            = 1001"})

    def say(self, said: dict[str, str | None]) -> None:
        self._said |= said
        (self.folder / "said.json").write_text(json.dumps(self._said))

    def calls(self, name: str) -> list[list[str]]:
        """The arguments of every call of a command."""
        log = self.folder / "calls.jsonl"
        called = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [call[1:] for call in called if call[0] == name]


def requests(paths: SweepPaths, number: int) -> list[JobRequest]:
    return [JobRequest(paths=RunPaths(paths.root / f"r{i}-{i:012x}"), arguments=(str(i),)) for i in range(number)]
