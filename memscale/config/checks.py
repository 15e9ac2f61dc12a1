"""The few checks every configuration shares. Each raises ConfigError with what was given and what is needed."""

from __future__ import annotations

import math
from collections.abc import Iterable

from memscale.errors import ConfigError, nearest


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def at_least(name: str, value: float, least: float) -> None:
    if not (math.isfinite(value) and value >= least):  # a plan checks millions of numbers, and writes no message
        raise ConfigError(f"{name} is {value}; it must be at least {least}")


def positive(name: str, value: float) -> None:
    require(math.isfinite(value) and value > 0, f"{name} is {value}; it must be greater than zero")


def between(name: str, value: float, low: float, high: float) -> None:
    require(low <= value <= high, f"{name} is {value}; it must lie between {low} and {high}")


def one_of(name: str, value: str, choices: Iterable[str]) -> None:
    options = list(choices)
    if value not in options:  # the nearest spelling takes longer to find than a whole model to count
        raise ConfigError(f"{name} is '{value}'; valid: {', '.join(options)}.{nearest(str(value), options)}")
