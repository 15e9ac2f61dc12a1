"""What a site wants of its jobs beside the launcher's own keys: options of sbatch, and environment variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from memscale.config.ranges import Checked, Text
from memscale.errors import ConfigError

_OWN = {
    "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint", "gres": "gres",
    "exclude": "exclude", "mem": "memory", "time": "minutes", "cpus-per-task": "cpus_per_run",
    "gpus-per-node": "gpus_per_run", "gpus": "gpus_per_run", "nodes": "nodes_per_run", "signal": "stop_seconds",
    "export": "environment",
}  # fmt: skip
"""Options with a key of their own in the launcher."""
_TAKEN = (
    "job-name", "array", "output", "error", "open-mode", "wrap", "parsable", "requeue", "no-requeue", "chdir", "begin",
    "dependency", "ntasks", "ntasks-per-node", "input", "wait", "test-only", "kill-on-invalid-dep",
)  # fmt: skip
"""Options that memscale sets itself."""


@dataclass(frozen=True, kw_only=True)
class SbatchOption(Checked):
    """An option of sbatch by its long name, such as `reservation: maxwell`; `true` for one without a value."""

    name: Annotated[str, Text(r"[a-z][a-z0-9-]{0,63}", "the long name of an option, without --", "sbatch reads it")]
    value: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name in _OWN:
            raise ConfigError(f"{self.name} has a key of its own: launcher.{_OWN[self.name]}")
        if self.name in _TAKEN:
            raise ConfigError(f"--{self.name} is set by memscale and cannot be given")
        good = self.value is True or (isinstance(self.value, str | int | float) and not isinstance(self.value, bool))
        if not good or not str(self.value).isprintable():
            raise ConfigError(f"{self.name} is {self.value!r}; it needs a text or a number on one line, or true")

    @property
    def flag(self) -> str:
        """The option as sbatch takes it."""
        return f"--{self.name}" if self.value is True else f"--{self.name}={self.value}"


@dataclass(frozen=True, kw_only=True)
class Variable(Checked):
    """An environment variable of a sweep's jobs."""

    name: Annotated[str, Text(r"[A-Za-z_][A-Za-z0-9_]*", "letters, digits and _", "a shell reads it")]
    value: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.value, str | int | float) or "\0" in str(self.value):
            raise ConfigError(f"{self.name} is {self.value!r}; it needs a text or a number")
