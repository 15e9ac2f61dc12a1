"""What the jobs of some runs ask for instead of what the launcher says: more memory or GPUs for the large ones."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

_CHOOSE = ("families", "params_above", "flops_above")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """For runs that meet all of the first three; what is None stays as the launcher has it."""

    families: tuple[str, ...] = ()
    """By their names in the sweep; empty: all."""
    params_above: float = 0.0
    """Runs of more total parameters."""
    flops_above: float = 0.0
    """Runs of more training FLOPs."""
    cpus_per_run: int | None = None
    gpus_per_run: int | None = None
    nodes_per_run: int | None = None
    memory: str | None = None
    minutes: int | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = None

    def meets(self, family: str, params: float, flops: float) -> bool:
        return (
            (not self.families or family in self.families) and params > self.params_above and flops > self.flops_above
        )

    @property
    def changes(self) -> dict[str, Any]:
        """The launcher's keys that are other than it says."""
        found = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _CHOOSE}
        return {name: value for name, value in found.items() if value is not None}
