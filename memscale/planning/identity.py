"""The identity of a run: a hash of everything that changes its result, over one canonical form of JSON.

Refuses values without a canonical form (unknown types, NaN, infinities), and two runs with one identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
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


def run_id(run: Run) -> str:
    """Return the first 12 hex digits of the run's digest."""
    return digest(run)[:12]


def refuse_twins(named: Iterable[tuple[str, Run]]) -> None:
    """Raise PlanError where two runs have one identity, and print both."""
    seen: dict[str, str] = {}
    for name, run in named:
        key = run_id(run)
        if key in seen:
            raise PlanError(
                f"the runs '{seen[key]}' and '{name}' are the same experiment (both {key}): {canonical(run)}. "
                "Each run must differ in something that changes its result; look for a budget, seed or rate named twice"
            )
        seen[key] = name
