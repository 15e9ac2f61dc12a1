"""Which nodes are left out: those on which attempts end badly, one after another, whatever the run.

A run with a fault of its own fails anywhere; a node is suspected when its last two attempts, of different runs, ended
so there, while the sweep does well on another: a run is done there, or trains there, or left it in another way. Not
more than half of the nodes that were seen. Each suspected node is forgiven a run once: one that comes back to it
could go nowhere else, and then its faults count.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from memscale.launch.executor import RunStatus
from memscale.records.attempts import Outcome, attempt_numbers, host_of

_FAULTS = ("node_failure", "killed", "error", "lost", "unknown")
_IN_A_ROW = 2


def suspicious_nodes(statuses: Sequence[RunStatus], *, done_on: Collection[str] = ()) -> list[str]:
    """Return the nodes that get no more jobs of a sweep, those with most faults first.

    Args:
        statuses: Of the sweep's runs.
        done_on: Nodes on which further runs are known to be done.

    """
    ended: dict[str, list[tuple[Outcome, str]]] = {}
    for status in statuses:
        for outcome in status.outcomes:
            if outcome.host:
                ended.setdefault(outcome.host, []).append((outcome, status.paths.root.name))
    faults: dict[str, int] = {}
    for host, there in ended.items():
        there.sort(key=lambda one: one[0].ended)
        last = there[-_IN_A_ROW:]
        distinct = len({run for _, run in last}) == _IN_A_ROW
        if distinct and all(outcome.cause in _FAULTS for outcome, _ in last):
            faults[host] = sum(outcome.cause in _FAULTS for outcome, _ in there)
    if not faults:
        return []
    well = {*done_on, *(status.trains_on for status in statuses if status.trains_on), *_done_on(statuses)}
    well |= {host for host, there in ended.items() if any(outcome.cause not in _FAULTS for outcome, _ in there)}
    if not well - set(faults):
        return []
    return sorted(faults, key=lambda host: -faults[host])[: len(well | set(ended)) // 2]


def _done_on(statuses: Sequence[RunStatus]) -> set[str]:
    """The nodes on which runs were done."""
    done = [status.paths for status in statuses if status.state == "done"]
    return {host for paths in done if (host := host_of(paths, max(attempt_numbers(paths), default=0)))}


def avoided(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Return the nodes of a run's last faults, which its next job avoids.

    The fault may be the node's; one that comes again on another node is the run's.
    """
    hosts: dict[str, None] = {}
    for outcome in reversed(outcomes):
        if outcome.cause not in _FAULTS:
            break
        if outcome.host:
            hosts[outcome.host] = None
    return tuple(sorted(hosts))


def own(outcomes: Sequence[Outcome], bad: Collection[str]) -> list[Outcome]:
    """Return the outcomes that count against a run: all but its first fault on each of the `bad` nodes."""
    forgiven: set[str] = set()
    counted = []
    for outcome in outcomes:
        if outcome.host in bad and outcome.cause in _FAULTS and outcome.host not in forgiven:
            forgiven.add(outcome.host)
        else:
            counted.append(outcome)
    return counted
