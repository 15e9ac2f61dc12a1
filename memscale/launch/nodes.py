"""Which nodes are left out: those on which attempts end badly, one after another, whatever the run.

A run with a fault of its own fails anywhere; a node is suspected when its last two attempts, of different runs, ended
so there, and at least one attempt elsewhere did not. Never more than half of the nodes that were used.
"""

from __future__ import annotations

from collections.abc import Sequence

from memscale.launch.fleet import Standing
from memscale.records.attempts import Outcome

_FAULTS = ("node_failure", "killed", "error", "lost", "unknown")
_IN_A_ROW = 2


def suspicious_nodes(standings: Sequence[Standing]) -> list[str]:
    """Return their names, those with most faults first."""
    ended: dict[str, list[tuple[Outcome, str]]] = {}
    for standing in standings:
        for outcome in standing.outcomes:
            if outcome.host:
                ended.setdefault(outcome.host, []).append((outcome, standing.paths.root.name))
    faults: dict[str, int] = {}
    for host, there in ended.items():
        there.sort(key=lambda one: one[0].ended)
        last = there[-_IN_A_ROW:]
        distinct = len({run for _, run in last}) == _IN_A_ROW
        if distinct and all(outcome.cause in _FAULTS for outcome, _ in last):
            faults[host] = sum(outcome.cause in _FAULTS for outcome, _ in there)
    good = any(
        outcome.cause not in _FAULTS for host, there in ended.items() if host not in faults for outcome, _ in there
    )
    return sorted(faults, key=lambda host: -faults[host])[: len(ended) // 2] if good else []
