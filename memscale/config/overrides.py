"""Reads overrides of the command line before Hydra does, and says how to quote what its grammar cannot read.

Refuses overrides without end or with NUL, values that Hydra's grammar cannot read (accents, `=`, `#`, spaces outside
quotes), and lists of choices (`a,b`), which belong to Hydra's own sweeps.
"""

from __future__ import annotations

import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from memscale.errors import ConfigError, shown

LONGEST = 20_000
MOST_DEPTH = 30
LONGEST_NUMBER = 400
_KEY = re.compile(r"[+~]{0,2}[\w./@:$-]+", flags=re.ASCII)


def check_override(override: str) -> None:
    """Raise ConfigError, with the quoting that works, unless Hydra can read `override`, such as `scale=node`."""
    told = override if len(override) <= 200 else f"{override[:200]}..."
    if len(override) > LONGEST:
        raise ConfigError(f"the override {told} has {len(override):,} characters; {LONGEST:,} are the most")
    odd = re.search("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", override)
    if odd is not None:
        raise ConfigError(f"the override {told!r} has the character {odd[0]!r}, which no setting needs; remove it")
    if _depth(override) > MOST_DEPTH:
        raise ConfigError(f"the override {told} is nested more than {MOST_DEPTH} levels deep; write it flatter")
    if re.search(rf"\d{{{LONGEST_NUMBER},}}", override):
        raise ConfigError(f"the override {told} has a number of more than {LONGEST_NUMBER} digits")
    key, equals, value = override.partition("=")
    if _KEY.fullmatch(key) is None or not (equals or key.startswith("~")):
        raise ConfigError(f"'{told}' is not an override; it needs key=value, such as scale=node")
    try:
        parsed = OverridesParser.create().parse_override(override)
    except (HydraException, RecursionError):
        raise ConfigError(
            f"{key} on the command line is {shown(value)}, which cannot be read. {_quoting(key, value)}"
        ) from None
    if parsed.is_sweep_override():
        raise ConfigError(
            f"{told} names several values. For a list, write brackets: '{key}=[{value}]'. {_quoting(key, value)}"
        )


def _quoting(key: str, value: str) -> str:
    """The same value as a quoted text, for the command line and for make."""
    # Hydra takes a backslash for itself, but in front of a quote.
    inner = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), value.strip("\"'"))
    quoted = f"\"{key}='{inner[:200]}'\""
    make = quoted.replace('"', '\\"')
    return f'Text with spaces, accents or any of = # , : [ ] {{ }} needs quotes twice: {quoted}, or SET="{make}"'


def _depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    return deepest
