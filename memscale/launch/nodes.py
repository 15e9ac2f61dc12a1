"""Which nodes are left out: those on which attempts end badly, one after another, whatever the run.

A run with a fault of its own fails anywhere; a node is suspected when its last two attempts, of different runs, ended
so there, while the sweep does well elsewhere: a run is done, or trains on another node, or left one in another way. Not
more than half of the nodes that were seen, but for one. What ended on a suspected node says nothing about the run.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from memscale.launch.fleet import Standing
from memscale.records.attempts import Outcome

_FAULTS = ("node_failure", "killed", "error", "lost", "unknown")
_IN_A_ROW = 2


def suspicious_nodes(standings: Sequence[Standing], *, proved: bool = False) -> list[str]:
    """Return their names, those with most faults first. `proved`: another run of the sweep is known to be done."""
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
    at_work = {standing.trains_on for standing in standings if standing.trains_on}
    good = (
        proved
        or any(standing.kind == "done" for standing in standings)
        or bool(at_work - set(faults))
        or any(outcome.cause not in _FAULTS for host in set(ended) - set(faults) for outcome, _ in ended[host])
    )
    most = max(1, len(at_work | set(ended)) // 2)
    return sorted(faults, key=lambda host: -faults[host])[:most] if good else []


def avoided(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Return the nodes of a run's last faults, to which its next job should not go: the fault may be theirs, and a
    fault that comes again elsewhere is the run's."""
    hosts: dict[str, None] = {}
    for outcome in reversed(outcomes):
        if outcome.cause not in _FAULTS:
            break
        if outcome.host:
            hosts[outcome.host] = None
    return tuple(sorted(hosts))


def own(outcomes: Sequence[Outcome], bad: Collection[str]) -> list[Outcome]:
    """Return those that did not end on one of the `bad` nodes."""
    return [outcome for outcome in outcomes if outcome.host not in bad]
