"""The checks that all configuration classes share. Each raises ConfigError with the value and the requirement."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from memscale.errors import ConfigError, nearest

ADDED_LATER: Mapping[str, str | bool | None] = {"added_later": None}
"""Metadata of a field that an earlier version did not have, with the default None: as everything was before. While it
is None it is not part of the plain form (`memscale.config.codec.to_plain`), so that identities, run files and
checkpoints of earlier versions stay what they are."""


def added_later(before: str | bool) -> Mapping[str, str | bool | None]:
    """Return metadata like `ADDED_LATER` for a word or a switch: `before` is what everything was, and is left out.

    It is compared with `before` and not with the field's default, so that another default later on would not give old
    results to new runs.
    """
    return {"added_later": before}


def is_left_out(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a field is not part of the plain form: one that was added later, while it is as everything was before."""
    return "added_later" in field.metadata and bool(value == field.metadata["added_later"])


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def at_least(name: str, value: float, least: float) -> None:
    """Raise ConfigError unless `value` is finite and at least `least`."""
    if not (math.isfinite(value) and value >= least):  # called millions of times per plan: build no message beforehand
        raise ConfigError(f"{name} is {value}; it must be at least {least}")


def positive(name: str, value: float) -> None:
    """Raise ConfigError unless `value` is finite and greater than zero."""
    require(math.isfinite(value) and value > 0, f"{name} is {value}; it must be greater than zero")


def between(name: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError unless low <= value <= high."""
    require(low <= value <= high, f"{name} is {value}; it must lie between {low} and {high}")


def one_of(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise ConfigError unless `value` is one of `choices`; the message lists them and the nearest spelling."""
    options = list(choices)
    if value not in options:  # finding the nearest spelling is slow
        raise ConfigError(f"{name} is '{value}'; valid: {', '.join(options)}.{nearest(str(value), options)}")
