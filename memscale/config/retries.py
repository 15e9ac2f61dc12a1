"""How often a run is retried, by the cause that ended its attempts."""

from __future__ import annotations

from dataclasses import dataclass

from memscale.config.ranges import Checked, Tries


@dataclass(frozen=True, kw_only=True)
class Retries(Checked):
    """Largest number of retries for each cause; None: no limit. Every attempt that ends so uses one."""

    stopped: Tries | None = None
    """Stopped by a signal."""
    preempted: Tries | None = None
    """A job of higher priority took its node."""
    time_limit: Tries | None = None
    """Its job reached its time limit; the next continues from the checkpoint."""
    cancelled: Tries | None = 3
    """Its job was cancelled other than by `memscale cancel`, whose cancellations last until the next `memscale
    sweep`."""
    node_failure: Tries | None = 3
    """Its node failed."""
    gpu_out_of_memory: Tries | None = 1
    """Retried with half the micro-batch, which does not change results."""
    host_out_of_memory: Tries | None = 0
    killed: Tries | None = 2
    """Its process was killed by a signal."""
    error: Tries | None = 2
    """It raised an exception; the same exception twice in a row ends the retries."""
    lost: Tries | None = 2
    """It recorded no outcome, and the scheduler no longer knows its job."""
    unknown: Tries | None = 2
    """The scheduler reported a state that memscale does not know."""
    disk_full: Tries | None = 0
    diverged: Tries | None = 0
    bad_config: Tries | None = 0
    without_progress: Tries = 5
    """Consecutive interruptions (the first three causes) without a newer checkpoint, after which retries end."""
