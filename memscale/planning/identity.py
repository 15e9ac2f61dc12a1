"""The identity of a run: a hash of everything that changes its result, over one canonical form of JSON.

Refuses values without a canonical form (unknown types, NaN, infinities), and two runs with one identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from memscale.config.codec import to_plain
from memscale.config.run import Run
from memscale.errors import PlanError


def canonical(value: Any) -> str:
    """Return a dataclass, or a dict of such, as JSON with sorted keys, no spaces, and floats at full precision.

    Raises TypeError for a type without a plain form and ValueError for NaN and infinities.
    """
    plain = {key: to_plain(item) for key, item in value.items()} if isinstance(value, dict) else to_plain(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical form, in hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


class Identities:
    """Run ids of many runs that share their parts: each part's canonical form is made once.

    Parts are known by the object, not by equality, for 1 and 1.0 are equal and have two canonical forms.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}

    def part(self, value: Any) -> str:
        """The canonical form of `value`."""
        known = self._known.get(id(value))
        if known is None:
            known = (value, canonical(value))  # the object is kept, so that its id stays its own
            self._known[id(value)] = known
        return known[1]

    def run_id(self, run: Run) -> str:
        """As `run_id`."""
        content = ",".join([f'"{name}":{self._value(getattr(run, name))}' for name in _RUN_FIELDS])
        return hashlib.sha256(f"{{{content}}}".encode()).hexdigest()[:12]

    def _value(self, value: Any) -> str:
        if type(value) is int:
            return str(value)
        return self.part(value) if is_dataclass(value) else _scalar(value)


_RUN_FIELDS = tuple(sorted(field.name for field in fields(Run)))


def _scalar(value: Any) -> str:
    """The canonical form of a string, a number, a boolean or None."""
    return json.dumps(value, allow_nan=False)


def run_id(run: Run) -> str:
    """Return the first 12 hex digits of the run's digest."""
    return digest(run)[:12]


def refuse_duplicates(identities: Iterable[tuple[str, str, Run]]) -> None:
    """Raise PlanError where two runs, given as (name, run id, run), have one identity, and print both."""
    seen: dict[str, str] = {}
    for name, key, run in identities:
        if key in seen:
            raise PlanError(
                f"the runs '{seen[key]}' and '{name}' are the same experiment (both {key}): {canonical(run)}. "
                "Each run must differ in something that changes its result; look for a budget, seed, setting or rate "
                "named twice"
            )
        seen[key] = name
