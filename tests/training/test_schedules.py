"""The shape of the learning rate, as properties over all schedules."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from memscale.config.optimizer import SCHEDULES, Schedule
from memscale.errors import ConfigError
from memscale.training.schedules import lr_factor, table_factor
from tests.planning.shipped import planned

FRACTIONS = st.floats(0.0, 1.0)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    warmup, decay = draw(FRACTIONS), draw(FRACTIONS)
    assume(warmup + decay <= 1.0)
    return Schedule(
        kind=draw(st.sampled_from(SCHEDULES)),
        warmup_fraction=warmup,
        decay_fraction=decay,
        final_fraction=draw(FRACTIONS),
    )


def curve(schedule: Schedule, num_steps: int) -> list[float]:
    return [lr_factor(schedule, step, num_steps) for step in range(num_steps)]


@given(schedules(), st.integers(1, 300))
def test_rises_then_falls_and_never_is_zero(schedule: Schedule, num_steps: int) -> None:
    factors = curve(schedule, num_steps)
    top = factors.index(max(factors))
    assert all(0.0 < value <= 1.0 for value in factors)
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


@given(schedules(), st.integers(1, 300))
def test_warm_up_is_linear(schedule: Schedule, num_steps: int) -> None:
    warmup_steps = schedule.warmup_fraction * num_steps
    for step in range(int(warmup_steps)):
        decay_begun = schedule.kind == "wsd" and num_steps - step < schedule.decay_fraction * num_steps
        if not decay_begun:
            assert lr_factor(schedule, step, num_steps) == pytest.approx((step + 1) / warmup_steps)


@given(schedules(), st.integers(1, 300))
def test_wsd_is_flat_between_and_straight_at_the_end(schedule: Schedule, num_steps: int) -> None:
    assume(schedule.kind == "wsd")
    decay_steps = schedule.decay_fraction * num_steps
    for step, value in enumerate(curve(schedule, num_steps)):
        left = num_steps - step
        if step + 1 < schedule.warmup_fraction * num_steps:
            continue
        if left >= decay_steps:
            assert value == 1.0
        else:
            expected = schedule.final_fraction + (1 - schedule.final_fraction) * left / decay_steps
            assert value == pytest.approx(expected)


@given(schedules(), st.integers(1, 100), st.integers(2, 5))
def test_the_shape_does_not_depend_on_the_number_of_steps(schedule: Schedule, num_steps: int, times: int) -> None:
    """The step boundaries that a longer run shares with a shorter one: its rates bracket the shorter one's."""
    short, long = curve(schedule, num_steps), curve(schedule, num_steps * times)
    for step, value in enumerate(short):
        around = long[step * times : (step + 1) * times]
        assert min(around) - 1e-9 <= value <= max(around) + 1e-9


def test_cosine_is_half_way_at_half_time() -> None:
    schedule = Schedule(kind="cosine", warmup_fraction=0.0, decay_fraction=0.0, final_fraction=0.2)
    assert lr_factor(schedule, 500, 1000) == pytest.approx(0.6)
    assert lr_factor(schedule, 250, 1000) == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2)
    assert lr_factor(schedule, 999, 1000) == pytest.approx(0.2, abs=1e-5)


def test_the_recipe_of_the_paper_has_the_curve_of_its_code() -> None:
    """Its `linear`: step / warm-up, then a straight line to the least share at the last step; ours is one step on."""
    schedule = planned("memory_layers_at_scale", "scale=paper").sweep.recipe.schedule
    num_steps, warmup, least = 128_000, 4_000, 0.01
    for step in (0, 1, 3_998, 3_999, 4_000, 4_001, 64_000, 127_999):
        share = (step - warmup) / (num_steps - warmup)
        code = step / warmup if step < warmup else share * least + (1 - share)
        assert lr_factor(schedule, step, num_steps) == pytest.approx(code, abs=1 / warmup)
    assert lr_factor(schedule, 64_000, num_steps) == pytest.approx(1 - 0.99 * 60_000 / 124_000, abs=1e-12)


def test_tables_follow_the_models_schedule_unless_they_have_their_own() -> None:
    run = next(run.run for run in planned("memory_vs_moe").runs if run.run is not None and run.architecture.has_table)
    own = replace(run, table_schedule=Schedule(warmup_fraction=0.0, decay_fraction=1.0, final_fraction=0.1))
    for step in (0, run.num_steps // 2, run.num_steps - 1):
        assert table_factor(run, step) == lr_factor(run.schedule, step, run.num_steps)
        assert table_factor(own, step) == pytest.approx(0.1 + 0.9 * (run.num_steps - step) / run.num_steps)


def test_what_is_about_tables_is_refused_without_one() -> None:
    run = next(run.run for run in planned("memory_vs_moe").runs if run.run is not None and run.family == "dense")
    apart = replace(run.optimizer, clipping="apart")
    for changes in ({"table_schedule": run.schedule}, {"optimizer": apart}):
        with pytest.raises(ConfigError, match="are about tables, and the model has none; leave them out"):
            replace(run, **changes)
