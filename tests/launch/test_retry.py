"""The retry table, row by row."""

from __future__ import annotations

from dataclasses import fields

import pytest

from memscale.config.retries import Retries
from memscale.launch.retry import decide, same_fault
from memscale.records.attempts import CAUSES, INTERRUPTIONS, Outcome

TABLE = Retries()


def ended(cause: str, trace: str = "", *, step: int = 0) -> Outcome:
    return Outcome(cause=cause, evidence="", started=0.0, ended=1.0, host="h", trace=trace, step=step)


def test_every_cause_has_a_row_of_its_own() -> None:
    rows = {field.name for field in fields(Retries)} - {"without_progress"}
    assert rows == set(CAUSES) - {"done"}


@pytest.mark.parametrize("cause", ["done", "diverged", "bad_config", "disk_full", "host_out_of_memory"])
def test_what_would_end_the_same_way_is_not_tried_again(cause: str) -> None:
    assert not decide([ended(cause)], TABLE).again


@pytest.mark.parametrize("cause", INTERRUPTIONS)
def test_interruptions_cost_no_attempt_as_long_as_checkpoints_move_on(cause: str) -> None:
    moving = [ended(cause, step=1 + i) for i in range(50)]
    assert decide(moving, TABLE).again
    assert decide([*moving, ended("killed", step=50), ended(cause, step=51)], TABLE).again
    still = [*moving, *(ended(cause, step=50) for _ in range(5))]
    assert decide(still, TABLE).again
    given_up = decide([*still, ended(cause, step=50)], TABLE)
    assert not given_up.again
    assert "6 times in a row" in given_up.reason


@pytest.mark.parametrize("cause, allowed", [("killed", 2), ("lost", 2), ("node_failure", 3), ("cancelled", 3)])
def test_other_ends_are_tried_again_up_to_the_limit(cause: str, allowed: int) -> None:
    between = [ended("preempted", step=1)]
    assert decide([ended(cause)] * (allowed - 1) + between + [ended(cause)], TABLE).again
    assert not decide([ended(cause)] * allowed + between + [ended(cause)], TABLE).again
    assert decide([ended(cause)] * 50, Retries(**{cause: None})).again


def test_a_gpu_out_of_memory_is_tried_once_more_at_half_the_micro_batch() -> None:
    first = decide([ended("gpu_out_of_memory")], TABLE)
    assert first.again
    assert first.half_micro_batch
    assert not decide([ended("gpu_out_of_memory"), ended("stopped"), ended("gpu_out_of_memory")], TABLE).again


def test_the_same_error_twice_is_believed() -> None:
    assert decide([ended("error", "a.py:1")], TABLE).again
    assert decide([ended("error", "a.py:1"), ended("error", "b.py:2")], TABLE).again
    assert decide([ended("error", "a.py:1"), ended("killed"), ended("error", "a.py:1")], TABLE).again
    assert not decide([ended("error", "a.py:1"), ended("preempted"), ended("error", "a.py:1")], TABLE).again


def test_three_runs_with_one_traceback_are_one_fault() -> None:
    assert same_fault([ended("error", "a"), ended("error", "b"), ended("error", "a")]) is None
    assert same_fault([ended("killed", "a")] * 5) is None
    fault = same_fault([ended("error", "a"), ended("error", "b"), ended("error", "a"), ended("error", "a")])
    assert fault is not None
    assert fault.trace == "a"
