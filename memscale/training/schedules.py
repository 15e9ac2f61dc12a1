"""The learning rate over a run, as a factor of its peak: a pure function of the step.

Fractions are taken of the real number of steps and never rounded to whole steps, so that runs of different lengths
follow one shape. No step has a rate of zero: the decay reaches `final_fraction` after the last step, not at it.
"""

from __future__ import annotations

import math

from memscale.config.optimizer import Schedule
from memscale.config.run import Run


def lr_factor(schedule: Schedule, step: int, num_steps: int) -> float:
    """Return the factor, in 0..1, on the peak learning rate of the update that follows `step` finished ones.

    "wsd" (Hu et al. 2024): min(linear warm-up, 1, linear decay). "cosine" (Loshchilov and Hutter 2017): linear warm-up,
    then half a cosine.

    Args:
        schedule: Kind and fractions.
        step: Finished steps, 0 <= step < num_steps.
        num_steps: Steps of the run.

    Example:
        >>> schedule = Schedule(kind="wsd", warmup_fraction=0.1, decay_fraction=0.2, final_fraction=0.0)
        >>> [round(lr_factor(schedule, step, num_steps=20), 2) for step in (0, 1, 10, 17, 19)]
        [0.5, 1.0, 1.0, 0.75, 0.25]
    """
    assert 0 <= step < num_steps, f"step {step} of {num_steps}"
    warmup_steps = schedule.warmup_fraction * num_steps
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
    shape = _wsd_decay if schedule.kind == "wsd" else _cosine_decay
    decay = schedule.final_fraction + (1.0 - schedule.final_fraction) * shape(schedule, step, num_steps)
    return min(warmup, decay)


def table_factor(run: Run, step: int) -> float:
    """Return the factor on the peak learning rate of a run's tables: of their own schedule, or of the model's.

    Their weight decay follows, because a step shrinks rows by rate x decay. UltraMem (Huang et al. 2025) lets the
    tables' rate begin as a multiple of the model's and fall towards it, for -.022 nats in its ladder of improvements.
    """
    return lr_factor(run.table_schedule or run.schedule, step, run.num_steps)


def _wsd_decay(schedule: Schedule, step: int, num_steps: int) -> float:
    decay_steps = schedule.decay_fraction * num_steps
    return min(1.0, (num_steps - step) / decay_steps) if decay_steps > 0 else 1.0


def _cosine_decay(schedule: Schedule, step: int, num_steps: int) -> float:
    warmup_steps = schedule.warmup_fraction * num_steps
    if step <= warmup_steps:
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup_steps) / (num_steps - warmup_steps)))
