"""`memscale plan`: the plan, its matches, its cost, and what of it is done. Touches nothing."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.table import Table

from memscale.cli import arguments
from memscale.cli.arguments import Planned
from memscale.cli.console import console
from memscale.cli.numbers import exact, percent, quantity, size
from memscale.config.codec import to_plain
from memscale.launch.convert import plan_row
from memscale.launch.progress import duration
from memscale.launch.slots import slots_for
from memscale.launch.sweep import cost_of, is_done, known_speeds, reopen
from memscale.planning.forecast import Forecast, forecast
from memscale.planning.plan import STAGES, Plan, PlannedRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_sweep(parser)
    arguments.add_overrides(parser)
    arguments.add_json(parser)


def run(given: argparse.Namespace) -> int:
    planned = arguments.make_planned(given.sweep, given.overrides)
    plan = reopen(planned.plan, planned.paths)
    if given.json:
        print(json.dumps(plan_json(plan, planned), indent=1))
    else:
        print_plan(plan, planned)
    return 0


def forecast_of(plan: Plan, planned: Planned) -> Forecast:
    slots = slots_for(plan.sweep.launcher, len(plan.runs))
    stages = [[cost_of(run, is_done(planned.paths, run)) for run in plan.stage(stage)] for stage in STAGES]
    seconds = plan.sweep.launcher.checkpoint_seconds
    return forecast(stages, known_speeds(slots), slots=len(slots), checkpoint_seconds=seconds)


def matched_of(plan: Plan) -> dict[str, Any]:
    """The worst mismatches: FLOPs per token against dense, and total parameters between the sparse runs of a budget."""
    worst_flops = max(plan.runs, key=lambda run: abs(run.flops_off))
    sparse = [run for run in plan.runs if run.params_off is not None]
    worst_params = max(sparse, key=lambda run: abs(run.params_off or 0.0), default=None)
    gap = 0.0
    for budget in {run.budget_flops for run in sparse}:
        totals = [run.counts.params_total for run in sparse if run.budget_flops == budget]
        gap = max(gap, max(totals) / min(totals) - 1)
    return {
        "flops_off": abs(worst_flops.flops_off),
        "flops_off_run": worst_flops.name,
        "params_gap": gap,
        "params_off_run": worst_params.name if worst_params is not None else None,
    }


def plan_json(plan: Plan, planned: Planned) -> dict[str, Any]:
    cost = forecast_of(plan, planned)
    return {
        "format": 1,
        "sweep": plan.sweep.name,
        "question": plan.sweep.question,
        "plan_hash": plan.plan_hash,
        "scale": plan.sweep.scale.name,
        "launcher": plan.sweep.launcher.name,
        "runs": [to_plain(plan_row(run)) for run in plan.runs],
        "dropped": [],  # this planner refuses a plan that it cannot meet whole; it leaves no run out
        "matched": matched_of(plan),
        "forecast": {
            "seconds": cost.seconds,
            "disk_bytes": cost.disk_bytes,
            "slots": cost.slots,
            "measured": cost.measured,
        },
    }


def print_plan(plan: Plan, planned: Planned) -> None:
    out = console()
    cost = forecast_of(plan, planned)
    sweep, tuning = plan.sweep, len(plan.stage("tune"))
    parts = f"{len(sweep.families)} families x {len(sweep.scale.budgets)} budgets x {len(sweep.scale.seeds)} seeds"
    opening = [
        f"{sweep.name}   {sweep.question}",
        f"plan {plan.plan_hash}   {len(plan.runs)} runs = {parts} + {tuning} lr tuning",
        *(f"  {note}" for note in planned.loaded.notes),
    ]
    out.print("\n".join(opening), markup=False, soft_wrap=True)
    out.print(_table(plan, cost))
    out.print(_closing(plan, planned, cost), markup=False, soft_wrap=True)


def _table(plan: Plan, cost: Forecast) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("budget", "family", "runs", "layers"):
        table.add_column(name, justify="left" if name == "family" else "right")
    for name in ("params total / active", "tokens", "FLOPs off", "params off", "lr (table)", "time", "disk"):
        table.add_column(name, justify="right")
    seconds = dict(
        zip([run.name for run in [*plan.stage("tune"), *plan.stage("compare")]], cost.run_seconds, strict=True)
    )
    rows: dict[tuple[str, float, str], list[PlannedRun]] = {}
    for run in plan.runs:
        rows.setdefault((run.stage, run.budget_flops, run.family), []).append(run)
    for (stage, budget, family), runs in rows.items():
        first = runs[0]
        table.add_row(
            exact(budget),
            f"{family} (tune)" if stage == "tune" else family,
            str(len(runs)),
            str(first.architecture.num_layers),
            f"{quantity(first.counts.params_total)} / {quantity(first.counts.params_active)}",
            quantity(first.tokens),
            percent(first.flops_off),
            percent(first.params_off),
            _rates(runs),
            duration(sum(seconds[run.name] for run in runs)),
            size(sum(12 * run.counts.params_total for run in runs)),
        )
    return table


def _rates(runs: list[PlannedRun]) -> str:
    rates = [run.run.optimizer for run in runs if run.run is not None]
    if not rates:
        return "from tuning"
    low, high = min(one.learning_rate for one in rates), max(one.learning_rate for one in rates)
    text = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    tables = [one.table_learning_rate for one in rates if one.table_learning_rate is not None]
    if not tables:
        return text
    return f"{text} ({min(tables):g})" if len(set(tables)) == 1 else f"{text} ({min(tables):g} to {max(tables):g})"


def _closing(plan: Plan, planned: Planned, cost: Forecast) -> str:
    matched = matched_of(plan)
    done = sum(is_done(planned.paths, run) for run in plan.runs)
    basis = "measured on this machine" if cost.measured else "guess: nothing was measured here yet"
    lines = [
        f"matched   worst gap inside a budget: FLOPs {matched['flops_off']:.2%} ({matched['flops_off_run']}), "
        f"total parameters {matched['params_gap']:.2%} ({matched['params_off_run'] or 'no sparse family'})",
        "dropped   nothing",
        f"forecast  {duration(cost.seconds)} on {cost.slots} slots ({basis}), {size(cost.disk_bytes)} disk",
        f"already   {done} done, {len(plan.runs) - done} to run",
    ]
    for choice in plan.choices:
        edge = "  at the edge of its sweep: a better rate may lie outside" if choice.at_edge else ""
        table = f", table {choice.rates.table_learning_rate:g}" if choice.rates.table_learning_rate else ""
        lines.append(f"chosen    {choice.family}: lr {choice.rates.learning_rate:g}{table}{edge}")
    return "\n".join(lines)
