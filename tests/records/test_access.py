"""New folders are their owner's or their group's alone; nothing is written through a link; readers may look."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memscale.errors import RecordError
from memscale.launch.syncer import Syncer
from memscale.launch.worker import _redirect
from memscale.records.access import make_folder, modes_of
from memscale.records.atomic import write_json
from memscale.records.layout import SweepPaths
from memscale.records.lease import Lease, is_held
from memscale.records.metrics import MetricsLog
from memscale.records.submissions import new_submission, users_of, write_submission
from tests.other_users import OtherUser, as_other_user, reachable_folder
from tests.sweeps import ROOT


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def reachable() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


def test_a_new_folder_is_its_owners_alone(tmp_path: Path) -> None:
    made = make_folder(tmp_path / "runs" / "s")
    assert (mode(made), mode(made.parent)) == (0o700, 0o700)
    made.chmod(0o755)
    assert mode(make_folder(made)) == 0o755  # what a person opened stays open
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="is no folder"):
        make_folder(tmp_path / "file")


def test_below_a_group_folder_all_is_the_groups(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs").chmod(0o2770)
    made = make_folder(tmp_path / "runs" / "s")
    assert mode(made) == 0o2770
    before = os.umask(0o022)
    try:
        with modes_of(made / "not" / "there"):
            write_json(made / "a" / "b.json", {}, format=1)
        write_json(made / "c.json", {}, format=1)
        with Lease(made / "lock", "it"):
            pass
    finally:
        assert os.umask(before) == 0o022
    assert mode(made / "a") & 0o777 == 0o770
    assert mode(made / "a" / "b.json") == 0o660
    assert mode(made / "c.json") == 0o644  # outside, the person's umask holds
    assert mode(made / "lock") == 0o664  # but for locks, which have to be opened for writing


def test_another_user_reads_and_replaces_nothing_in_a_new_folder(reachable: Path, other_user: OtherUser) -> None:
    sweep = make_folder(reachable / "runs" / "s")
    write_json(sweep / "run" / "run.json", {}, format=1)
    (reachable / "runs").chmod(0o755)
    for command in (
        ("cat", f"{sweep}/run/run.json"),
        ("ls", f"{sweep}"),
        ("mv", f"{sweep}/run", f"{sweep}/other"),
        ("mv", f"{sweep}", f"{sweep}2"),
        ("rm", "-rf", f"{sweep}/run/run.json"),
        ("sh", "-c", f"echo > {sweep}/run/run.json"),
        ("sh", "-c", f"echo > {sweep}/job_submitted.pkl"),
    ):
        done = as_other_user(other_user, *command)
        assert (done.returncode, "denied" in done.stderr) != (0, False), command
    assert [path.name for path in sweep.iterdir()] == ["run"]
    assert (sweep / "run" / "run.json").read_text() != "\n"


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "authorized_keys"
    target.write_text("mine\n")
    paths = SweepPaths(tmp_path / "s")
    paths.root.mkdir()
    for name in ("lock", "log.txt", "metrics.jsonl", "sync.log"):
        (paths.root / name).symlink_to(target)
    with pytest.raises(RecordError, match="is a link"), Lease(paths.root / "lock", "it"):
        pass
    assert not is_held(paths.root / "lock")
    with pytest.raises(RecordError, match="is a link"):
        _redirect(paths.root / "log.txt")
    with pytest.raises(RecordError):
        MetricsLog(paths.root / "metrics.jsonl")
    with pytest.raises(RecordError, match="is a link"):
        Syncer(paths=paths).once()
    (paths.root / "plan.json").symlink_to(target)
    write_json(paths.root / "plan.json", {}, format=1)  # a whole file takes the link's place
    assert not (paths.root / "plan.json").is_symlink()
    assert target.read_text() == "mine\n"


def test_who_may_only_read_sees_who_holds_a_lease(reachable: Path, other_user: OtherUser) -> None:
    look = "import sys, pathlib, memscale.records.lease as l; print(l.is_held(pathlib.Path(sys.argv[1])))"
    lease = reachable / "lease"
    with Lease(lease, "it"):
        seen = as_other_user(other_user, sys.executable, "-c", look, str(lease), cwd=ROOT)
    assert seen.stdout == "True\n", seen.stderr
    assert as_other_user(other_user, sys.executable, "-c", look, str(lease), cwd=ROOT).stdout == "False\n"


def test_the_jobs_of_everybody_who_submitted_are_asked_for(tmp_path: Path, other_user: OtherUser) -> None:
    paths = SweepPaths(tmp_path / "s")
    write_submission(paths, new_submission("s", ("r",)))
    assert users_of(paths) == ()
    os.chown(next(paths.submissions.glob("*.json")), other_user.uid, -1)
    assert set(users_of(paths)) == {"root", other_user.name}
