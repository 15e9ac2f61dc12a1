"""The retry table, row by row."""

from __future__ import annotations

import pytest

from memscale.launch.retry import decide, same_fault
from memscale.records.attempts import CAUSES, Outcome


def ended(cause: str, trace: str = "") -> Outcome:
    return Outcome(cause=cause, evidence="", started=0.0, ended=1.0, host="h", trace=trace)


@pytest.mark.parametrize("cause", ["done", "diverged", "bad_config", "disk_full"])
def test_what_would_end_the_same_way_is_not_tried_again(cause: str) -> None:
    assert not decide([ended(cause)], 3).again


def test_interruptions_cost_no_attempt() -> None:
    assert decide([ended("stopped")] * 50, 3).again
    assert decide([ended("stopped")] * 50 + [ended("killed")] * 2 + [ended("stopped")], 3).again


@pytest.mark.parametrize("cause", ["killed", "lost"])
def test_lost_attempts_are_tried_again_up_to_the_limit(cause: str) -> None:
    assert decide([ended(cause)] * 2, 3).again
    assert not decide([ended(cause)] * 3, 3).again


def test_out_of_memory_is_tried_once_more_at_half_the_micro_batch() -> None:
    first = decide([ended("out_of_memory")], 3)
    assert first.again
    assert first.half_micro_batch
    assert not decide([ended("out_of_memory"), ended("stopped"), ended("out_of_memory")], 3).again


def test_the_same_error_twice_is_believed() -> None:
    assert decide([ended("error", "a.py:1")], 3).again
    assert decide([ended("error", "a.py:1"), ended("error", "b.py:2")], 3).again
    assert not decide([ended("error", "a.py:1"), ended("error", "a.py:1")], 3).again


def test_every_cause_has_a_decision() -> None:
    for cause in CAUSES:
        assert isinstance(decide([ended(cause)], 1).again, bool)


def test_three_runs_with_one_traceback_are_one_fault() -> None:
    assert same_fault([ended("error", "a"), ended("error", "b"), ended("error", "a")]) is None
    assert same_fault([ended("killed", "a")] * 5) is None
    fault = same_fault([ended("error", "a"), ended("error", "b"), ended("error", "a"), ended("error", "a")])
    assert fault is not None
    assert fault.trace == "a"
