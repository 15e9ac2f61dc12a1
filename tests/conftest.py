"""How the tests share a machine: one thread for each of pytest's processes, and which tests stay together.

`make test` runs them with pytest-xdist and `--dist loadgroup`. The unit that a worker takes is a file, so that what a
module prepares is made once; tests that start servers carry `xdist_group` marks and stay together across files.
"""

from __future__ import annotations

import os

# Before torch and numpy are imported: beside other workers a second thread each only gets in the way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

GROUPS = ("slurm", "postgresql", "browser")
"""Groups that start servers, the longest first. A test of one says so: `pytest.mark.xdist_group("slurm")`."""


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test a group, its file's where it has none; put the longest groups first, so that none ends alone."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    ranks: dict[str, int] = {}
    for item in items:
        ranks[_group(item)] = min(_rank(item), ranks.get(_group(item), len(GROUPS) + 1))
    first = {group: place for place, group in reversed([*enumerate(map(_group, items))])}
    items.sort(key=lambda item: (ranks[_group(item)], first[_group(item)]))  # stable: a file keeps its order


def _group(item: pytest.Item) -> str:
    mark = item.get_closest_marker("xdist_group")
    assert mark is not None
    return str(mark.args[0])


def _rank(item: pytest.Item) -> int:
    if _group(item) in GROUPS:
        return GROUPS.index(_group(item))
    return len(GROUPS) + (item.get_closest_marker("slow") is None)
