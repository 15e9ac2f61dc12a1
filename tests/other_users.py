"""Real users of this machine beside the one who runs the tests, made by root for a session and removed after it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

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
    return f"not installed: {', '.join(absent)}" if absent else ""


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
            subprocess.run(["userdel", name], capture_output=True, check=False, env=_environment())
        subprocess.run(["groupdel", group], capture_output=True, check=False, env=_environment())


def as_other_user(
    user: OtherUser,
    *command: str,
    environment: Mapping[str, str] | None = None,
    umask: int = 0o022,
    cwd: os.PathLike[str] | str = "/",
    timeout: float = 600.0,
) -> subprocess.CompletedProcess[str]:
    """Run a command as that user, with the user's group alone."""
    acting = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups", *command]
    return subprocess.run(
        acting, capture_output=True, text=True, check=False, cwd=cwd, umask=umask, timeout=timeout,
        env={**_environment(), **(environment or {})},
    )  # fmt: skip


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, done.stderr


def _id(which: str, name: str) -> int:
    return int(subprocess.run(["id", which, name], capture_output=True, text=True, check=True).stdout)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MEMSCALE_", "MLFLOW_"))}
    return {**kept, "PATH": _path(), "HOME": "/nonexistent"}
