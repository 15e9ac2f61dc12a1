"""Resource requests for the jobs of some runs in place of the launcher's, such as more memory for large models."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from memscale.config.ranges import Checked, Gpus, Hardware, Minutes, SlurmMemory, SlurmWord, Threshold

_CHOOSE = ("families", "params_above", "flops_above")


@dataclass(frozen=True, kw_only=True)
class Resources(Checked):
    """Requests for the runs that match the first three fields; a field that is None keeps the launcher's value."""

    families: tuple[str, ...] = ()
    """Names of families in the sweep; empty: all."""
    params_above: Threshold = 0.0
    """Only runs with more total parameters than this."""
    flops_above: Threshold = 0.0
    """Only runs with more training FLOPs than this."""
    cpus_per_run: Hardware | None = None
    gpus_per_run: Gpus | None = None
    nodes_per_run: Hardware | None = None
    memory: SlurmMemory | None = None
    minutes: Minutes | None = None
    partition: SlurmWord | None = None
    qos: SlurmWord | None = None
    constraint: SlurmWord | None = None
    gres: SlurmWord | None = None

    def matches(self, family: str, params: float, flops: float) -> bool:
        """Whether a run of that family name, total parameters and training FLOPs gets these requests."""
        return (
            (not self.families or family in self.families) and params > self.params_above and flops > self.flops_above
        )

    @property
    def changes(self) -> dict[str, Any]:
        """The launcher's keys that are replaced, with their new values."""
        found = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _CHOOSE}
        return {name: value for name, value in found.items() if value is not None}
