"""`memscale status`: every run's state from its files; what needs somebody first.

Exit status: 0 all done, 3 running, 4 somebody is needed.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from memscale.cli import arguments
from memscale.cli.console import console
from memscale.launch.overview import Line, Overview, overview
from memscale.launch.progress import duration
from memscale.records.plan_file import PlanFile

EXIT_DONE, EXIT_RUNNING, EXIT_NEEDED = 0, 3, 4
_MOST_NEEDY, _MOST_RUNNING = 30, 60
"""Shown to a person."""
_ORDER = ("failed", "lost", "running", "queued", "planned", "done")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_sweep(parser)
    arguments.add_json(parser)


def run(given: argparse.Namespace) -> int:
    paths, plan = arguments.launched(given.sweep)
    seen = overview(paths, plan)
    if given.json:
        print(json.dumps(status_json(plan, seen), indent=1))
    else:
        print_status(plan, seen)
    return exit_status(seen)


def exit_status(seen: Overview) -> int:
    states = {line.state.state for line in seen.lines}
    if states <= {"done"}:
        return EXIT_DONE
    moving = any(
        line.state.state == "running" or (line.state.state == "queued" and not line.held) for line in seen.lines
    )
    return EXIT_RUNNING if moving or (seen.scheduled and "planned" in states) else EXIT_NEEDED


def status_json(plan: PlanFile, seen: Overview) -> dict[str, object]:
    return {
        "format": 1,
        "sweep": plan.sweep,
        "plan_hash": plan.plan_hash,
        "counts": dict(Counter(line.state.state for line in seen.lines)),
        "scheduled": seen.scheduled,
        "halted": seen.halted,
        "slurm_is_silent": seen.silent,
        "runs": [
            {
                "name": line.row.name,
                "run_id": line.row.run_id,
                "state": line.state.state,
                "cause": line.state.cause,
                "evidence": line.state.evidence,
                "attempts": line.state.attempts,
                "step": _step(line),
                "num_steps": _num_steps(line),
                "job_id": line.job_id,
                "node": line.node,
                "advice": line.state.advice,
            }
            for line in _in_order(seen)
        ],
    }


def _num_steps(line: Line) -> int:
    return line.row.tokens // line.row.batch_tokens


def _step(line: Line) -> int | None:
    if line.state.heartbeat is not None:
        return line.state.heartbeat.step
    return _num_steps(line) if line.state.state == "done" else None


def _in_order(seen: Overview) -> list[Line]:
    """Those that need somebody first."""
    return sorted(seen.lines, key=lambda line: (not line.held, _ORDER.index(line.state.state)))


def print_status(plan: PlanFile, seen: Overview) -> None:
    out = console()
    counts = Counter(line.state.state for line in seen.lines)
    told = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
    scheduler = "a launcher is at work" if seen.scheduled else "no launcher is at work"
    out.print(f"{plan.sweep}  plan {plan.plan_hash}  {told}  ({scheduler})", markup=False, soft_wrap=True)
    for what in (seen.silent, f"nothing is started any more: {seen.halted}" if seen.halted else ""):
        if what:
            out.print(what, markup=False, soft_wrap=True)
    lines = _in_order(seen)
    needy = [line for line in lines if line.state.state in ("failed", "lost") or line.state.advice]
    for line in needy[:_MOST_NEEDY]:
        cause = f" ({line.state.cause})" if line.state.cause else ""
        out.print(f"{line.row.name} {line.state.state}{cause}: {line.state.evidence}", markup=False, soft_wrap=True)
        out.print(f"    {line.state.advice}", markup=False, soft_wrap=True)
    if len(needy) > _MOST_NEEDY:
        out.print(f"and {len(needy) - _MOST_NEEDY} more that need somebody; --json has them all", markup=False)
    _print_running([line for line in lines if line.state.state == "running"])
    if not seen.scheduled and counts["done"] < len(lines):
        out.print(f"go on with: make sweep SWEEP={plan.sweep}", markup=False)


def _print_running(lines: Sequence[Line]) -> None:
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
