"""A sweep of a group folder that one person began and another ends, and that a third may only read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.other_users import OtherUser, as_other_user, command_of, other_environment, reachable_folder
from tests.sweeps import FEWER, NAME, ROOT, STORE, _put_store, small_sweep, write_text

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shared(two_other_users: tuple[OtherUser, OtherUser]) -> Iterator[Path]:
    """A folder for the group, as `mkdir runs; chgrp lab runs; chmod 2770 runs` makes it."""
    with reachable_folder() as folder:
        yield _group_folder(folder, two_other_users)


def _group_folder(folder: Path, users: tuple[OtherUser, OtherUser]) -> Path:
    runs = folder / "runs"
    runs.mkdir()
    _put_store(runs)
    shutil.copy(runs / STORE, folder / "empty.db")
    for path in (runs, runs / STORE):
        os.chown(path, users[0].uid, users[0].gid)
    runs.chmod(0o2770)
    (runs / STORE).chmod(0o660)
    return runs


def environment(runs: Path, user: OtherUser) -> dict[str, str]:
    home = runs.parent / user.name
    if not home.exists():
        home.mkdir()
        os.chown(home, user.uid, user.gid)
    return {"MEMSCALE_RUNS": str(runs), "OMP_NUM_THREADS": "1", "HOME": str(home)}


def memscale(user: OtherUser, runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "memscale.cli.main", *arguments)
    return as_other_user(user, *command, environment=environment(runs, user), cwd=ROOT)


def test_one_begins_another_goes_on_and_a_third_reads(
    shared: Path, two_other_users: tuple[OtherUser, OtherUser]
) -> None:
    first, second = two_other_users
    text = shared.parent / "text"
    text.mkdir()
    less = (*FEWER, "launcher=local", "families.memory_plus=null")  # which compiles kernels for each user
    overrides = small_sweep(write_text(text), flops="[2e9]", seeds="[0]", more=less)
    begun = subprocess.Popen(
        command_of(first, sys.executable, "-m", "memscale.cli.main", "sweep", NAME, *overrides),
        env={**other_environment(), **environment(shared, first)}, cwd=ROOT, umask=0o022, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    until = time.monotonic() + 300
    while not list(shared.glob(f"{NAME}/*/result.json")) and begun.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    if begun.poll() is None:
        os.killpg(begun.pid, signal.SIGKILL)  # an end with a report and a mirror takes longer
    said = begun.communicate(timeout=300)[0]
    by_first = list(shared.glob(f"{NAME}/*/result.json"))
    assert by_first, said
    assert len(by_first) < 4, "it was over before it could be stopped"

    ended = memscale(second, shared, "sweep", NAME, *overrides)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    owners = {path: path.stat().st_uid for path in shared.glob(f"{NAME}/*/result.json")}
    assert set(owners.values()) == {first.uid, second.uid}
    # its last words are there: the first person's run may have been killed between its result and them
    whole = next(path.parent for path, owner in owners.items() if owner == second.uid)
    for path in (shared / NAME).rglob("*"):
        assert path.stat().st_gid == first.gid, path
        assert path.stat().st_mode & stat.S_IROTH == 0, path

    reader = OtherUser(second.name, second.uid, 65534)  # of no group that may look
    assert _said(reader, shared, ["status", NAME])[0][0] == 2
    _open_to_readers(shared)
    _reads(reader, shared, json.loads((whole / "run.json").read_text())["name"])


VERBS = """
import contextlib, io, json, sys
from memscale.cli.main import main
said = []
for arguments in json.loads(sys.argv[1]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = main(arguments)
    said.append([status, out.getvalue()])
print(json.dumps(said))
"""


def _said(user: OtherUser, runs: Path, *verbs: list[str]) -> list[tuple[int, str]]:
    """Exit status and words of each verb, in one process: most of a verb is its start."""
    command = (sys.executable, "-c", VERBS, json.dumps(verbs))
    done = as_other_user(user, *command, environment=environment(runs, user), cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return [(status, text) for status, text in json.loads(done.stdout.splitlines()[-1])]


def _open_to_readers(runs: Path) -> None:
    runs.chmod(0o2775)
    subprocess.run(["chmod", "-R", "o+rX", runs / NAME], check=True)
    subprocess.run(["chown", "-R", "root", runs], check=True)  # nothing is the reader's own


def _reads(reader: OtherUser, runs: Path, name: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    mine = runs.parent / reader.name / "mine"
    verbs = [["status", NAME, "--json"], ["results", NAME], ["figures", NAME], ["figures", NAME, "--out", str(mine)]]
    seen, table, refused, drawn, log, freed = _said(reader, runs, *verbs, ["logs", NAME, name], ["retry", NAME])
    assert (seen[0], json.loads(seen[1])["counts"]) == (0, {"done": 4})
    assert (table[0], "you may only read" in table[1]) == (0, True), table
    assert (refused[0], "--out FOLDER" in refused[1]) == (2, True), refused
    assert drawn[0] == 0, drawn
    assert {"report.html", "figures", "results.csv"} <= {path.name for path in mine.iterdir()}
    assert (log[0], "done: its result is written" in log[1]) == (0, True), log
    assert freed[0] == 0
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before


def test_the_ui_of_a_reader_is_a_mirror_of_their_own(
    shared: Path, two_other_users: tuple[OtherUser, OtherUser]
) -> None:
    reader = OtherUser(two_other_users[1].name, two_other_users[1].uid, 65534)
    _open_to_readers(shared)
    home = environment(shared, reader)["HOME"]
    mirror = (
        "import shutil, sys, pathlib, memscale.tracking.mirror as m, memscale.tracking.ui as ui\n"
        "sweep, empty = map(pathlib.Path, sys.argv[1:])\n"
        "store = ui._store_root(sweep.parent)\n"
        "shutil.copy(empty, store / 'mlflow.db')\n"
        "synced = m.sync(sweep, store_root=store)\n"
        "print(store, oct(store.stat().st_mode), synced.num_runs, synced.problems)"
    )
    empty = shared.parent / "empty.db"
    empty.chmod(0o644)
    command = (sys.executable, "-c", mirror, str(shared / NAME), str(empty))
    mirrored = as_other_user(reader, *command, environment={"HOME": home}, cwd=ROOT)
    assert mirrored.stdout.startswith(f"{home}/.cache/memscale/"), mirrored.stderr
    assert mirrored.stdout.endswith(" 0o40700 4 ()\n"), mirrored.stderr
