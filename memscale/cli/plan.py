"""`memscale plan`: the plan, its matches, its cost, and what of it is done.

Writes nothing, except with `--calibrate`, which measures training steps on this machine and keeps the speeds beside the
runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from memscale import api
from memscale.cli import arguments
from memscale.cli.matches import matched_json
from memscale.cli.plan_page import print_plan
from memscale.launch.convert import plan_row
from memscale.launch.estimates import estimate_json
from memscale.launch.planned import plan_sweep
from memscale.launch.resolution import resolution_json
from memscale.launch.tuning_cost import tuning_cost
from memscale.planning.budgets import DenseBaseline
from memscale.planning.knowledge import offered_facts
from memscale.planning.plan import Plan
from memscale.records.layout import runs_root
from memscale.records.speeds import record_speeds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_sweep(parser)
    arguments.add_overrides(parser)
    arguments.add_json(parser)
    parser.add_argument("--all", action="store_true", help="print every row of a long plan")
    parser.add_argument("--explain", metavar="RUN", help="count one run by component instead")
    parser.add_argument(
        "--calibrate", action="store_true", help="first measure training steps here, for the forecast (minutes)"
    )


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    if given.calibrate:
        _calibrate(plan_sweep(given.sweep, given.overrides).plan, quiet=given.json)
    planned = api.plan(given.sweep, given.overrides)
    if given.explain is not None:
        from memscale.cli.explain import explain

        explain(planned.plan, given.explain, as_json=given.json)
        return 0
    if given.json:
        _write_json(planned)
    else:
        print_plan(planned, all_rows=given.all)
    return 0


def _calibrate(plan: Plan, *, quiet: bool) -> None:
    """Measure this machine and keep what was found. With `quiet` standard output stays clean."""
    from memscale.launch.calibrate import calibrate

    out = sys.stderr if quiet else sys.stdout
    found = calibrate(plan, lambda line: print(line, file=out, flush=True))
    record_speeds(runs_root(), found.machine, found.points)
    for name, reason in found.unmeasured:
        print(f"  {name} was not measured: {reason}", file=out)


def _budget_json(plan: Plan, one: DenseBaseline) -> dict[str, Any]:
    """A budget: its dense model, and what it is offered of each source of countable facts."""
    return {
        "name": one.name,
        "flops": one.flops,
        "tokens": one.tokens,
        "batch_tokens": one.batch_tokens,
        "d_model": one.dense.d_model,
        "num_layers": one.dense.num_layers,
        "dense_params_non_embedding": one.params_non_embedding,
        "data": plan.digests_of(one.name).data,
        "facts": [asdict(facts) for facts in offered_facts(one.data, one.params_non_embedding, one.tokens)],
    }


def _write_json(planned: api.SweepPlan) -> None:
    """Write the plan as JSON, a line a run: a plan of a hundred thousand is not built up in memory."""
    plan, cost = planned.plan, planned.estimate
    head = {
        "format": 2,
        "sweep": plan.sweep.name,
        "question": plan.sweep.question,
        "plan_hash": plan.plan_hash,
        "scale": plan.sweep.scale.name,
        "launcher": plan.sweep.launcher.name,
    }
    tail: dict[str, Any] = {
        "dropped": [{"name": one.name, "reason": one.reason} for one in plan.dropped],
        "notes": list(plan.notes),
        "budgets": [_budget_json(plan, one) for one in plan.baselines],
        "matched": matched_json(plan),
        "forecast": estimate_json(plan, cost),
        "resolution": resolution_json(planned.resolution),
        "tuning": asdict(tuning) if (tuning := tuning_cost(plan, cost.seconds)) is not None else None,
    }
    write = sys.stdout.write
    write("{\n")
    for key, value in head.items():
        write(f' "{key}": {json.dumps(value)},\n')
    write(' "runs": [')
    for number, run in enumerate(plan.runs):
        write(f"{',' if number else ''}\n  {json.dumps(vars(plan_row(run)))}")
    write("\n ],\n")
    write(",\n".join(f' "{key}": {json.dumps(value)}' for key, value in tail.items()))
    write("\n}\n")
