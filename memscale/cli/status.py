"""`memscale status`: every run's state from its files; what needs somebody first.

Exit status: 0 all done, 3 running, 4 somebody is needed.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass

from rich.table import Table

from memscale.cli import arguments
from memscale.cli.console import console
from memscale.launch.progress import duration
from memscale.launch.states import RunState, read_state
from memscale.records.attempts import job_id
from memscale.records.layout import SweepPaths
from memscale.records.lease import is_held
from memscale.records.plan_file import PlanFile, PlanRow

EXIT_DONE, EXIT_RUNNING, EXIT_NEEDED = 0, 3, 4
_ORDER = ("failed", "lost", "running", "queued", "planned", "done")


@dataclass(frozen=True, kw_only=True)
class Line:
    row: PlanRow
    state: RunState
    job_id: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_sweep(parser)
    arguments.add_json(parser)


def run(given: argparse.Namespace) -> int:
    paths, plan = arguments.launched(given.sweep)
    lines = read_lines(paths, plan)
    if given.json:
        print(json.dumps(status_json(plan, lines), indent=1))
    else:
        print_status(paths, plan, lines)
    return exit_status(paths, lines)


def read_lines(paths: SweepPaths, plan: PlanFile) -> list[Line]:
    """The state of every run, those that need somebody first."""
    scheduled = is_held(paths.lock)
    lines = []
    for row in plan.runs:
        folder = plan.run_paths(paths, row)
        if folder is None:
            waiting = RunState(
                state="planned", cause=None, evidence="its stage is not open", attempts=0, heartbeat=None, advice=""
            )
            lines.append(Line(row=row, state=waiting))
        else:
            lines.append(Line(row=row, state=read_state(folder, queued=scheduled), job_id=job_id(folder)))
    return sorted(lines, key=lambda line: _ORDER.index(line.state.state))


def exit_status(paths: SweepPaths, lines: list[Line]) -> int:
    states = {line.state.state for line in lines}
    if states <= {"done"}:
        return EXIT_DONE
    if is_held(paths.lock) or "running" in states:
        return EXIT_RUNNING
    return EXIT_NEEDED


def status_json(plan: PlanFile, lines: list[Line]) -> dict[str, object]:
    return {
        "format": 1,
        "sweep": plan.sweep,
        "plan_hash": plan.plan_hash,
        "counts": dict(Counter(line.state.state for line in lines)),
        "runs": [
            {
                "name": line.row.name,
                "run_id": line.row.run_id,
                "state": line.state.state,
                "cause": line.state.cause,
                "attempts": line.state.attempts,
                "step": line.state.heartbeat.step if line.state.heartbeat else None,
                "num_steps": line.row.tokens // line.row.batch_tokens,
                "job_id": line.job_id,
                "node": line.state.heartbeat.host if line.state.heartbeat else None,
                "advice": line.state.advice,
            }
            for line in lines
        ],
    }


def print_status(paths: SweepPaths, plan: PlanFile, lines: list[Line]) -> None:
    out = console()
    counts = Counter(line.state.state for line in lines)
    told = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
    scheduler = "a launcher is at work" if is_held(paths.lock) else "no launcher is at work"
    out.print(f"{plan.sweep}  plan {plan.plan_hash}  {told}  ({scheduler})", markup=False, soft_wrap=True)
    for line in lines:
        if line.state.state in ("failed", "lost"):
            out.print(f"{line.row.name} {line.state.state}: {line.state.evidence}", markup=False, soft_wrap=True)
            out.print(f"    {line.state.advice}", markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("run", "state", "steps", "speed", "left", "attempts"):
        table.add_column(name, justify="left" if name in ("run", "state") else "right")
    for line in lines:
        if line.state.state == "running":
            beat = line.state.heartbeat
            steps = f"{beat.step}/{beat.num_steps}" if beat else ""
            left = duration(beat.seconds_left) if beat and beat.seconds_left is not None else ""
            speed = f"{beat.tokens_per_second / 1000:.3g}k tok/s" if beat else ""
            table.add_row(
                line.row.name, beat.phase if beat else "starting", steps, speed, left, str(line.state.attempts)
            )
    if table.row_count:
        out.print(table)
    if not is_held(paths.lock) and counts["done"] < len(lines):
        out.print(f"go on with: make sweep SWEEP={plan.sweep}", markup=False)
