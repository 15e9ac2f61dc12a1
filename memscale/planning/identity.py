"""The identity of a run: SHA-256 over the canonical JSON of everything that changes its result.

1. A run is written as JSON with sorted keys, no spaces, ASCII, and floats at full precision.
2. `run_id` is the first 12 hex digits of the SHA-256 of that text.

Field names of `memscale.config.run.Run` and of its parts are in the text: renaming one changes every run id. A field
that was added later is in it only where it is set (`memscale.config.checks.ADDED_LATER`, `added_later`). Refuses
values without a canonical form (unknown types, NaN, infinities), and two runs with one identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from memscale.config.checks import is_left_out
from memscale.config.codec import to_plain
from memscale.config.run import Run
from memscale.errors import PlanError


def canonical(value: Any) -> str:
    """Return a dataclass, or a dict of dataclasses, as canonical JSON.

    Raises:
        TypeError: A value has a type without a plain form.
        ValueError: A number is NaN or infinite.

    Example:
        >>> from memscale.config.optimizer import Schedule
        >>> canonical(Schedule(kind="cosine"))
        '{"decay_fraction":0.4,"final_fraction":0.0,"kind":"cosine","warmup_fraction":0.05}'
    """
    plain = {key: to_plain(item) for key, item in value.items()} if isinstance(value, dict) else to_plain(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical form, in hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


class Identities:
    """Computes the ids of many runs that share parts, and serialises each part once.

    Parts are cached by object, not by equality, since 1 and 1.0 are equal but have different canonical forms.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}

    def part(self, value: Any) -> str:
        """Return the canonical form of `value`, cached."""
        known = self._known.get(id(value))
        if known is None:
            known = (value, canonical(value))  # keep the object alive, so that its id is not reused
            self._known[id(value)] = known
        return known[1]

    def run_id(self, run: Run) -> str:
        """Return the same as the function `run_id`."""
        held = [(field, getattr(run, field.name)) for field in _RUN_FIELDS]
        content = ",".join([f'"{field.name}":{self._value(one)}' for field, one in held if not is_left_out(field, one)])
        return hashlib.sha256(f"{{{content}}}".encode()).hexdigest()[:12]

    def _value(self, value: Any) -> str:
        if type(value) is int:
            return str(value)
        return self.part(value) if is_dataclass(value) else _scalar(value)


_RUN_FIELDS = tuple(sorted(fields(Run), key=lambda field: field.name))


def _scalar(value: Any) -> str:
    """Return the canonical form of a string, a number, a boolean or None."""
    return json.dumps(value, allow_nan=False)


def run_id(run: Run) -> str:
    """Return the identity of a run: the first 12 hex digits of its digest."""
    return digest(run)[:12]


def refuse_duplicates(identities: Iterable[tuple[str, str, Run]]) -> None:
    """Raise PlanError where two runs, given as (name, run id, run), have one identity; the message names both."""
    seen: dict[str, str] = {}
    for name, key, run in identities:
        if key in seen:
            raise PlanError(
                f"the runs '{seen[key]}' and '{name}' are the same experiment (both {key}): {canonical(run)}. "
                "Each run must differ in something that changes its result; look for a budget, seed, setting or rate "
                "named twice"
            )
        seen[key] = name
