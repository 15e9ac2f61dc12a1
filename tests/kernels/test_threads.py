"""Parts of a kernel's work: together all of it, each once, by whatever threads; and what goes wrong is raised.

B bags.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from examples import threads
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from memscale.kernels import threads as kernel_threads
from memscale.kernels.threads import parallel_for, parallel_for_bags, parallel_ranges

COUNTS = st.integers(1, 5)


@pytest.fixture(autouse=True, scope="module", params=["torch's team", "a pool"])
def threads_of(request: pytest.FixtureRequest) -> Iterator[None]:
    """Torch's own threads, or plain ones where its OpenMP runtime cannot be entered."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "a pool":
            patch.setattr(kernel_threads, "_openmp", lambda: None)
        elif kernel_threads._openmp() is None:
            pytest.skip("torch has no OpenMP runtime here that can be entered")
        yield


class Noted:
    """A kernel that notes which parts it got, with what, and from which thread."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, int]] = []
        self.arguments: set[tuple[int, ...]] = set()
        self.threads: set[int] = set()

    def __call__(self, start: int, stop: int, *arguments: object) -> None:
        self.parts.append((start, stop))
        self.arguments.add(tuple(id(argument) for argument in arguments))
        self.threads.add(threading.get_ident())

    def covered(self) -> list[int]:
        return [i for start, stop in sorted(self.parts) for i in range(start, stop)]


def starts_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


@given(size=st.integers(0, 1000), count=COUNTS)
@settings(max_examples=60, deadline=None)
def test_parts_cover_everything_once(size: int, count: int) -> None:
    noted, first, second = Noted(), object(), object()
    with threads(count):
        parallel_for(noted, size, first, second)
    assert noted.covered() == list(range(size))
    assert noted.arguments == {(id(first), id(second))}
    assert len(noted.parts) == max(1, min(count, size // 64))
    assert all(type(bound) is int for part in noted.parts for bound in part)  # a kernel is compiled for one type
    lengths = [stop - start for start, stop in noted.parts]
    assert max(lengths) - min(lengths) <= 1


@given(
    num_bags=st.integers(0, 1500),
    mean=st.sampled_from([0.0, 0.5, 3.0, 50.0]),
    count=COUNTS,
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_bags_are_covered_once_and_parts_balanced_by_reads(num_bags: int, mean: float, count: int, seed: int) -> None:
    """Bags' lengths fall as Zipf's law has it, rows in the order of their frequency or in any."""
    generator = np.random.default_rng(seed)
    lengths = generator.poisson(mean * num_bags / (1.0 + np.arange(num_bags)))
    if seed % 2:
        generator.shuffle(lengths)
    starts_B1, noted, other = starts_of(lengths), Noted(), object()
    with threads(count):
        parallel_for_bags(noted, starts_B1, other)
    assert noted.covered() == list(range(num_bags))
    assert noted.arguments == {(id(starts_B1), id(other))}
    assert all(type(bound) is int for part in noted.parts for bound in part)
    num_parts = 1 if count == 1 else max(1, min(4 * count, num_bags // 64))
    costs = [int(lengths[start:stop].sum()) + 2 * (stop - start) for start, stop in noted.parts]
    # A bag is never cut, so a part is off by one bag at most.
    largest = int(lengths.max(initial=0)) + 2
    assert max(costs) <= sum(costs) / num_parts + largest
    assert len(costs) <= num_parts


def test_one_bag_with_nearly_all_reads_is_a_part_of_its_own() -> None:
    lengths = np.ones(1000, np.int64)
    lengths[500] = 100_000
    noted = Noted()
    with threads(2):
        parallel_for_bags(noted, starts_of(lengths))
    assert noted.covered() == list(range(1000))
    assert sorted(noted.parts)[1:] == [(501, 1000)]


def test_every_thread_takes_the_next_part() -> None:
    """Three threads get a part each, for none ends before all have begun."""
    barrier, noted = threading.Barrier(3), Noted()

    def kernel(start: int, stop: int) -> None:
        barrier.wait(timeout=30)
        noted(start, stop)

    with threads(3):
        parallel_ranges(kernel, [0, 1, 2, 3])
    assert noted.covered() == [0, 1, 2]
    assert len(noted.threads) == 3
    assert threading.get_ident() in noted.threads


def test_one_thread_is_the_calling_one() -> None:
    noted = Noted()
    with threads(1):
        parallel_ranges(noted, [0, 1, 5, 9])
    assert noted.parts == [(0, 1), (1, 5), (5, 9)]
    assert noted.threads == {threading.get_ident()}


@pytest.mark.parametrize("by_caller", [True, False])
def test_what_a_part_raises_is_raised_when_all_are_done(by_caller: bool) -> None:
    caller, barrier, done = threading.get_ident(), threading.Barrier(2), Noted()

    def kernel(start: int, stop: int) -> None:
        if start < 2:
            barrier.wait(timeout=30)  # each of the two threads is in a part of its own
            if (threading.get_ident() == caller) == by_caller:
                raise ZeroDivisionError(start)
        time.sleep(0.02)
        done(start, stop)

    with threads(2), pytest.raises(ZeroDivisionError):
        parallel_ranges(kernel, range(7))
    assert len(done.parts) == 5
    assert len(set(done.parts)) == 5
    assert len(done.threads) == 1
    noted = Noted()
    with threads(2):
        parallel_ranges(noted, range(7))  # and nothing is left of it
    assert noted.covered() == list(range(6))


def test_two_threads_may_run_kernels_at_once() -> None:
    """Torch's autograd and data threads may: helpers that are taken are waited for, and never by each other."""
    found: list[list[int]] = []

    def run() -> None:
        with threads(3):  # torch's number is each thread's own
            for _ in range(50):
                noted = Noted()
                parallel_for(noted, 400)
                found.append(noted.covered())

    callers = [threading.Thread(target=run) for _ in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(timeout=60)
    assert found == [list(range(400))] * 200
