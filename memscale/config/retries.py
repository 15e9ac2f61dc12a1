"""How often a run is tried again, by what ended its attempts."""

from __future__ import annotations

from dataclasses import dataclass, fields

from memscale.config.checks import at_least


@dataclass(frozen=True, kw_only=True)
class Retries:
    """Tries after the first that ended in each way; None: without limit. One of them is used up by every such end."""

    stopped: int | None = None
    """Asked to leave, by a signal."""
    preempted: int | None = None
    """A job of higher priority took its node."""
    time_limit: int | None = None
    """Its job's time was up; the next goes on from the checkpoint."""
    cancelled: int | None = 3
    """Its job was cancelled, but not by `memscale cancel`: what that cancels stays so until the sweep is started."""
    node_failure: int | None = 3
    """Its node failed."""
    gpu_out_of_memory: int | None = 1
    """Tried again at half the micro-batch, which changes no result."""
    host_out_of_memory: int | None = 0
    killed: int | None = 2
    """Its process died of a signal."""
    error: int | None = 2
    """It raised something; the same error twice in a row is believed at once."""
    lost: int | None = 2
    """It left no word, and nobody knows it any more."""
    unknown: int | None = 2
    """The scheduler used a word that memscale does not know."""
    disk_full: int | None = 0
    diverged: int | None = 0
    bad_config: int | None = 0
    without_progress: int = 5
    """Interruptions in a row (the first three above) that found no newer checkpoint, before somebody has to look."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) is not None:
                at_least(field.name, getattr(self, field.name), 0)
