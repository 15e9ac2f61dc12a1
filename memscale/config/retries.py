"""How often a run is retried, by the cause that ended its attempts."""

from __future__ import annotations

from dataclasses import dataclass, fields

from memscale.config.checks import at_least


@dataclass(frozen=True, kw_only=True)
class Retries:
    """Largest number of retries for each cause; None: no limit. Every attempt that ends so uses one."""

    stopped: int | None = None
    """Stopped by a signal."""
    preempted: int | None = None
    """A job of higher priority took its node."""
    time_limit: int | None = None
    """Its job reached its time limit; the next continues from the checkpoint."""
    cancelled: int | None = 3
    """Its job was cancelled other than by `memscale cancel`, whose cancellations last until the next `memscale
    sweep`."""
    node_failure: int | None = 3
    """Its node failed."""
    gpu_out_of_memory: int | None = 1
    """Retried with half the micro-batch, which does not change results."""
    host_out_of_memory: int | None = 0
    killed: int | None = 2
    """Its process was killed by a signal."""
    error: int | None = 2
    """It raised an exception; the same exception twice in a row ends the retries."""
    lost: int | None = 2
    """It recorded no outcome, and the scheduler no longer knows its job."""
    unknown: int | None = 2
    """The scheduler reported a state that memscale does not know."""
    disk_full: int | None = 0
    diverged: int | None = 0
    bad_config: int | None = 0
    without_progress: int = 5
    """Consecutive interruptions (the first three causes) without a newer checkpoint, after which retries end."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) is not None:
                at_least(field.name, getattr(self, field.name), 0)
