"""Steps measured for the forecast are the trainer's own, leave nothing behind, and tell the time of a whole batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memscale.config.run import Run
from memscale.data.prepared import Prepared
from memscale.records.layout import RunPaths
from memscale.training.calibration import measure_step, whole_batch_seconds
from memscale.training.execution import Execution
from memscale.training.trainer import train

EXECUTION = Execution(device="cpu", threads=1)


def _endless(run: Run) -> Run:
    return replace(run, tokens=run.batch_tokens * 1_000_000, validations=1)


@pytest.mark.parametrize("family", ["dense", "moe", "memory_plus"])
def test_a_measured_step_takes_what_the_trainer_takes(
    family: str, make_run: Callable[..., Run], prepared: Prepared, tmp_path: Path
) -> None:
    small = make_run(family)  # its step would take hardly longer than one of a single sequence
    batch = 16 * small.batch_tokens
    run = replace(small, batch_tokens=batch, tokens=10 * batch)
    measured = measure_step(_endless(run), EXECUTION, seconds=0.8, folder=tmp_path, save=True)
    trained = train(
        run, RunPaths(tmp_path / "real"), prepared, EXECUTION, on_progress=lambda _: None, should_stop=lambda: False
    )
    assert measured.measured_sequences == run.batch_sequences
    # The machine is shared with whatever else runs; what is excluded is a step of another size, such as a sequence's.
    assert 0.1 < measured.seconds / (trained.train_seconds / run.num_steps) < 10
    assert measured.checkpoint_seconds is not None
    assert measured.checkpoint_seconds > 0


def test_nothing_is_left_on_the_disk_and_no_checkpoint_is_written_unasked(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    measured = measure_step(_endless(make_run()), EXECUTION, seconds=0.1, folder=tmp_path / "new", save=False)
    assert measured.checkpoint_seconds is None
    assert list((tmp_path / "new").iterdir()) == []
    assert measured.num_steps >= 6


def test_a_batch_that_would_take_too_long_is_measured_in_part(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run()
    long = replace(run, batch_tokens=run.sequence_length * 50_000, tokens=run.sequence_length * 50_000 * 1_000_000)
    measured = measure_step(long, EXECUTION, seconds=0.3, folder=tmp_path, save=False)
    assert 1 < measured.measured_sequences < 50_000
    assert measured.seconds > 1  # at 100,000 sequences a second, which no core reaches


@given(st.floats(0, 10), st.floats(1e-6, 1), st.sets(st.integers(1, 200), min_size=2, max_size=4), st.integers(0, 5000))
def test_the_whole_batch_lies_on_the_line_through_its_parts(
    constant: float, each: float, numbers: set[int], more: int
) -> None:
    times = {number: [99.0, constant + each * number] for number in numbers}
    batch = max(numbers) + more
    assert whole_batch_seconds(times, batch) == pytest.approx(constant + each * batch, rel=1e-6)


def test_one_number_alone_is_followed_in_proportion_and_a_falling_line_is_not_followed() -> None:
    assert whole_batch_seconds({2: [3.0]}, 8) == pytest.approx(12.0)
    assert whole_batch_seconds({1: [5.0, 5.0], 4: [4.0, 4.0]}, 100) == pytest.approx(4.0)
