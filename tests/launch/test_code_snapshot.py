"""What was launched is what runs: a job imports the snapshot, wherever it was submitted from, or refuses to start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from memscale import __version__
from memscale.config.launcher import Launcher
from memscale.launch.code_snapshot import VARIABLE, module_command, shell_lines, take_snapshot
from memscale.launch.slurm.controllers import _START
from memscale.launch.slurm.script import job_parameters

CHECK = "from memscale.launch.code_snapshot import check_running_code; check_running_code()"


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return take_snapshot(tmp_path_factory.mktemp("runs") / "it's [1] of? é $HOME")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The folder that a job was submitted from, where the code was edited meanwhile."""
    (tmp_path / "memscale").mkdir()
    (tmp_path / "memscale" / "__init__.py").write_text("raise SystemExit('the edited code')")
    return tmp_path


def run(lines: list[str], command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a job's script does, after these lines."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", VARIABLE)}
    script = "\n".join([*lines, '"$@"'])
    return subprocess.run(
        ["bash", "-c", script, "job", *command], cwd=folder, env=kept, capture_output=True, text=True, check=False
    )


def test_a_runs_job_imports_the_snapshot(snapshot: Path, elsewhere: Path) -> None:
    # As submitit starts it: -m looks into the current folder first.
    command = [sys.executable, "-m", "timeit", "-n1", "-r1", f"import memscale; print(memscale.__file__); {CHECK}"]
    lines = job_parameters(Launcher(name="slurm"), snapshot)["setup"]
    done = run(lines, command, elsewhere)
    assert done.stdout.startswith(f"{snapshot}/memscale/"), done.stderr
    assert "the edited code" in run(lines[1:], command, elsewhere).stderr  # what would happen without the first line


def test_a_controller_imports_the_snapshot(snapshot: Path, elsewhere: Path) -> None:
    done = run(shell_lines(snapshot), [sys.executable, "-c", _START, "no_such_sweep"], elsewhere)
    assert (done.returncode, "memscale: " in done.stderr) == (2, True), done.stderr
    assert "no_such_sweep" in done.stderr


def test_a_process_of_ours_runs_our_code_too(elsewhere: Path) -> None:
    done = run([], [*module_command("memscale.cli.main"), "--version"], elsewhere)
    assert done.stdout.strip() == __version__, done.stderr
    assert "the edited code" in run([], [sys.executable, "-m", "memscale.cli.main", "--version"], elsewhere).stderr


def test_other_code_and_changed_code_are_refused(tmp_path: Path) -> None:
    here = run([f"export {VARIABLE}='{tmp_path}'"], [sys.executable, "-c", CHECK], Path(__file__).parents[2])
    assert f"launched with that in {tmp_path}" in here.stderr
    edited = take_snapshot(tmp_path)
    assert run(shell_lines(edited), [sys.executable, "-c", CHECK], tmp_path).returncode == 0
    with open(edited / "memscale" / "errors.py", "a", encoding="utf-8") as file:
        file.write("# edited\n")
    done = run(shell_lines(edited), [sys.executable, "-c", CHECK], tmp_path)
    assert "were changed since" in done.stderr


def test_changed_code_is_refused_before_any_of_it_runs(tmp_path: Path) -> None:
    """By the lines of the job's script, which lies in SLURM's spool: the snapshot cannot vouch for itself."""
    code = take_snapshot(tmp_path)
    command = [sys.executable, "-c", "import memscale"]
    assert run(shell_lines(code), command, tmp_path).returncode == 0
    assert not list(code.rglob("*.pyc"))
    marker = tmp_path / "it ran"
    with open(code / "memscale" / "__init__.py", "a", encoding="utf-8") as file:
        file.write(f"open({str(marker)!r}, 'w')\n")
    done = run(shell_lines(code), command, tmp_path)
    assert (done.returncode, "were changed since" in done.stderr) == (1, True)
    assert not marker.exists()


def test_a_planted_compiled_file_is_refused(snapshot: Path) -> None:
    planted = snapshot / "memscale" / "__pycache__" / "errors.cpython-311.pyc"
    planted.parent.mkdir(exist_ok=True)
    planted.write_bytes(b"")
    try:
        done = run(shell_lines(snapshot), [sys.executable, "-c", "import memscale"], snapshot)
    finally:
        planted.unlink()
    assert (done.returncode, "does not belong to the snapshot" in done.stderr) == (1, True)
