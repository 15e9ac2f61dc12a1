"""Real users of this machine beside the one who runs the tests, made by root for a session and removed after it."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("useradd", "userdel", "groupadd", "groupdel", "setpriv")


@dataclass(frozen=True)
class OtherUser:
    name: str
    uid: int
    gid: int
    """Of the group that both made users are in."""


def missing() -> str:
    """Why no users can be made here; '' where they can."""
    if os.geteuid() != 0:
        return "only root makes users"
    absent = [name for name in NEEDED if shutil.which(name, path=_path()) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    if _hidden() and subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        return "the interpreter lies where other users cannot reach it, and no mount namespace can be made"
    return ""


@contextmanager
def two_users() -> Iterator[tuple[OtherUser, OtherUser]]:
    """Make two users and a group that both are in."""
    names = [f"mst{os.getpid()}{letter}" for letter in "ab"]
    group = f"mst{os.getpid()}g"
    _run("groupadd", group)
    try:
        for name in names:
            _run("useradd", "--no-create-home", "--gid", group, "--shell", "/bin/sh", name)
        made = [OtherUser(name, _id("-u", name), _id("-g", name)) for name in names]
        yield made[0], made[1]
    finally:
        for name in names:
            subprocess.run(["userdel", name], capture_output=True, check=False, env=other_environment())
        subprocess.run(["groupdel", group], capture_output=True, check=False, env=other_environment())


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are private, and made so again by its next session."""
    folder = Path(tempfile.mkdtemp(prefix="memscale-users-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def as_other_user(
    user: OtherUser,
    *command: str,
    environment: Mapping[str, str] | None = None,
    umask: int = 0o022,
    cwd: os.PathLike[str] | str = "/",
    timeout: float = 600.0,
) -> subprocess.CompletedProcess[str]:
    """Run a command as that user, with the user's group alone."""
    return subprocess.run(
        command_of(user, *command), capture_output=True, text=True, check=False, cwd=cwd, umask=umask, timeout=timeout,
        env={**other_environment(), **(environment or {})},
    )  # fmt: skip


def command_of(user: OtherUser, *command: str) -> list[str]:
    """The command that runs `command` as that user, with the interpreter and this repository in reach."""
    acting = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups", *command]
    hidden = _hidden()
    if not hidden:
        return acting
    stage = Path(tempfile.mkdtemp(prefix="memscale-reach-"))
    lines = ["set -e"]
    for i, folder in enumerate(hidden):
        lines += [f"mkdir {stage}/{i}", f"mount --bind {shlex.quote(str(folder))} {stage}/{i}"]
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(above))}" for above in dict.fromkeys(hidden.values())]
    for i, folder in enumerate(hidden):
        lines += [f"mkdir -p {shlex.quote(str(folder))}", f"mount --bind {stage}/{i} {shlex.quote(str(folder))}"]
    lines += [f"chmod 755 {stage}", 'exec "$@"']
    return ["unshare", "--mount", "sh", "-c", "\n".join(lines), "sh", *acting]


@functools.cache
def _hidden() -> dict[Path, Path]:
    """Folders that Python needs and others cannot reach, as those in /root; each with the folder that hides it.

    In a mount namespace of its own the command finds an empty folder there, with the needed ones in it.
    """
    needed = {sys.base_prefix, sys.prefix, str(Path(__file__).parents[1]), *(path for path in sys.path if path)}
    found: dict[Path, Path] = {}
    for folder in sorted(Path(path).resolve() for path in needed if Path(path).is_dir()):
        closed = [above for above in reversed(folder.parents) if not above.stat().st_mode & stat.S_IXOTH]
        if closed and not any(folder.is_relative_to(other) for other in found):
            found[folder] = closed[0]
    return found


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=other_environment())
    assert done.returncode == 0, done.stderr


def _id(which: str, name: str) -> int:
    return int(subprocess.run(["id", which, name], capture_output=True, text=True, check=True).stdout)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def other_environment() -> dict[str, str]:
    """The environment of another user, without what memscale and MLflow are told here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MEMSCALE_", "MLFLOW_"))}
    return {**kept, "PATH": _path(), "HOME": "/nonexistent"}
