"""How the tests share a machine: one thread for each of pytest's processes, a file at a time, the longest files first.

`make test` runs them with pytest-xdist: a worker takes a whole file, so that what a module prepares (a trained sweep, a
browser) is made once. The files that start a SLURM of their own are two groups: such a test mostly waits for jobs, so
two of them run beside the others, and never more, which would starve each other. `make test` has two workers more than
the machine has cores for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

# Before torch and numpy are imported: beside other workers a second thread each only gets in the way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.other_users import OtherUser, missing, two_users

CLUSTERS = {
    "tests/launch/chaos/test_chaos.py": "cluster-1",
    "tests/launch/test_policy.py": "cluster-1",
    "tests/docker/test_cluster_scripts.py": "cluster-1",
    "tests/launch/test_interventions.py": "cluster-2",
    "tests/launch/test_several_processes.py": "cluster-2",
    "tests/launch/test_slurm.py": "cluster-2",
}
"""Files that start a real SLURM, and the group that each belongs to; about as long each."""
LONGEST = (
    *CLUSTERS,
    "tests/launch/test_faults.py",
    "tests/docs/test_site.py",
    "tests/cli/test_wrong_inputs.py",
    "tests/cli/test_real_text.py",
    "tests/launch/test_two_people.py",
)
"""Files that take over a minute, the longest first: begun last, one of them would run alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, then those with a slow test. The order within a file stays."""
    slow = {_file(item.nodeid) for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: _rank(_file(item.nodeid), slow))


class _ByFileOrCluster(LoadFileScheduling):
    """Gives a worker a whole file, or all files of a group of clusters."""

    def _split_scope(self, nodeid: str) -> str:
        return CLUSTERS.get(_file(nodeid), _file(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """Schedule by file and cluster where the options ask for files (pyproject.toml)."""
    return _ByFileOrCluster(config, log) if config.getvalue("dist") == "loadfile" else None


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


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
