"""How the tests share a machine: one thread for each of pytest's processes, a file at a time, the longest files first.

`make test` runs them with pytest-xdist and `--dist loadfile`: a worker takes a whole file, so that what a module
prepares (a trained sweep, a cluster, a browser) is made once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

# Before torch and numpy are imported: beside other workers a second thread each only gets in the way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from tests.other_users import OtherUser, missing, two_users

LONGEST = (
    "tests/launch/chaos/test_chaos.py",
    "tests/launch/test_policy.py",
    "tests/launch/test_faults.py",
    "tests/launch/test_several_processes.py",
    "tests/launch/test_interventions.py",
    "tests/launch/test_slurm.py",
    "tests/launch/test_two_people.py",
)
"""Files that take over a minute, the longest first: begun last, one of them would run alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, then those with a slow test. The order within a file stays."""
    slow = {_file(item) for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: _rank(_file(item), slow))


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _rank(file: str, slow: set[str]) -> int:
    if file in LONGEST:
        return LONGEST.index(file)
    return len(LONGEST) + (file not in slow)


@pytest.fixture(scope="session")
def two_other_users() -> Iterator[tuple[OtherUser, OtherUser]]:
    """Two users of this machine who share a group; skips where none can be made."""
    if missing():
        pytest.skip(missing())
    with two_users() as made:
        yield made


@pytest.fixture
def other_user(two_other_users: tuple[OtherUser, OtherUser]) -> OtherUser:
    """Another user of this machine, who may do what everybody may."""
    return two_other_users[0]
