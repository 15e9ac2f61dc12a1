"""`memscale status`: every run's state from its files; what needs a person first.

Exit status: 0 all done, 3 running, 4 a person is needed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from rich.table import Table

from memscale import api
from memscale.cli import arguments
from memscale.cli.console import console
from memscale.launch.formatting import duration
from memscale.launch.overview import ORDER, RunLine, SweepStatus
from memscale.launch.states import DONE, NEEDS_ATTENTION, RUNNING, UNVERIFIED

EXIT_STATUS = {DONE: 0, RUNNING: 3, NEEDS_ATTENTION: 4}
_MOST_NEEDY, _MOST_RUNNING = 30, 60
"""Shown to a person."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_sweep(parser)
    arguments.add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    seen = api.status(given.sweep)
    if given.json:
        print(json.dumps(seen.to_json(), indent=1))
    else:
        print_status(seen)
    return EXIT_STATUS[seen.state]


def print_status(seen: SweepStatus) -> None:
    """Print a sweep's status: the counts, what needs a person with its advice, and the runs at work."""
    out, counts = console(), seen.counts
    numbers = ", ".join(f"{counts[state]} {state}" for state in ORDER if state in counts)
    scheduler = "a launcher is at work" if seen.scheduled else "no launcher is at work"
    out.print(f"{seen.sweep}  plan {seen.plan_hash}  {numbers}  ({scheduler})", markup=False, soft_wrap=True)
    halted = f"nothing is started any more: {seen.halted}" if seen.halted else ""
    for what in (
        seen.slurm_is_silent,
        halted,
        seen.controllers_held,
        seen.data_changed,
        seen.sweep_changed,
        seen.code_differs,
    ):
        if what:
            out.print(what, markup=False, soft_wrap=True)
    needy = [line for line in seen.runs if line.state.state in ("damaged", "failed", "lost") or line.state.advice]
    for line in needy[:_MOST_NEEDY]:
        cause = f" ({line.state.cause})" if line.state.cause not in (None, line.state.state) else ""
        out.print(f"{line.row.name} {line.state.state}{cause}: {line.state.evidence}", markup=False, soft_wrap=True)
        out.print(f"    {line.state.advice}", markup=False, soft_wrap=True)
    if len(needy) > _MOST_NEEDY:
        out.print(f"and {len(needy) - _MOST_NEEDY} more that need somebody; --json has them all", markup=False)
    if unverified := sum(line.state.evidence == UNVERIFIED for line in seen.runs):
        out.print(f"{unverified} of the runs that are done are {UNVERIFIED}; their numbers are used", markup=False)
    _print_running([line for line in seen.runs if line.state.state == "running"])
    if not seen.scheduled and counts.get("done", 0) < len(seen.runs):
        out.print(f"go on with: make sweep SWEEP={seen.sweep}", markup=False)


def _print_running(lines: Sequence[RunLine]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("run", "state", "steps", "speed", "left", "attempts", "node"):
        table.add_column(name, justify="left" if name in ("run", "state", "node") else "right")
    for line in lines[:_MOST_RUNNING]:
        beat = line.state.heartbeat
        steps = f"{beat.step}/{beat.num_steps}" if beat else ""
        left = duration(beat.seconds_left) if beat and beat.seconds_left is not None else ""
        speed = f"{beat.tokens_per_second / 1000:.3g}k tok/s" if beat else ""
        phase = beat.phase if beat else "starting"
        table.add_row(line.row.name, phase, steps, speed, left, str(line.state.attempts), line.node or "")
    if table.row_count:
        console().print(table)
    if len(lines) > _MOST_RUNNING:
        speed_sum = sum(line.state.heartbeat.tokens_per_second for line in lines if line.state.heartbeat)
        console().print(
            f"and {len(lines) - _MOST_RUNNING} more; all together {speed_sum / 1000:.3g}k tok/s", markup=False
        )
