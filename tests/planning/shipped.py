"""The shipped sweeps with overrides, sized as the command line sizes them, and plans of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from memscale.config.load import load_sweep, sweep_names
from memscale.config.run import Digests
from memscale.config.sweep import Sweep
from memscale.planning.budgets import size_knowledge
from memscale.planning.opening import open_next
from memscale.planning.plan import Plan, make_plan
from memscale.planning.planned_runs import PlannedRun
from memscale.planning.tuning import is_tuning

SWEEPS = Path(__file__).parents[2] / "sweeps"
NAMES = sweep_names(SWEEPS)
SCALES = ("laptop", "node", "paper")
DIGESTS = Digests(data="d" * 64, tokenizer="t" * 64, evaluation="e" * 64)


def _budgets(*rows: tuple[str, int, int]) -> str:
    shapes = (
        f"{{flops: {flops}, d_model: {width}, num_layers: 4, num_heads: {heads}}}" for flops, width, heads in rows
    )
    return f"scale.budgets=[{','.join(shapes)}]"


BY_FLOPS = (
    "scale=laptop",
    "data=facts_and_code",
    _budgets(("4e11", 48, 3), ("7.5e11", 64, 4), ("1.7e12", 96, 6)),
    "scale.seeds=[0,1]",
)
"""Overrides of `memory_vs_moe`: three budgets of FLOPs, all on one set of data, and two seeds."""


def is_offered(name: str, scale: str) -> bool:
    """Whether a sweep has the scale: a file of its own for it, unless that is optional."""
    return (SWEEPS / "at" / f"{name}_{scale}.yaml").exists() or "optional at:" in (SWEEPS / f"{name}.yaml").read_text()


def shipped(name: str, *overrides: str) -> Sweep:
    return size_knowledge(load_sweep(name, ["launcher=local", *overrides], folder=SWEEPS).sweep)


def planned(name: str, *overrides: str) -> Plan:
    return make_plan(shipped(name, *overrides), DIGESTS)


def opened(plan: Plan, loss: Callable[[int, PlannedRun], float | None] = lambda number, _: float(number % 7)) -> Plan:
    """Every stage open, with rates chosen from made-up losses; `loss` is given a tuning run and its number."""
    while plan.next_stage is not None:
        tuned = [run for run in plan.runs if run.run_id is not None and is_tuning(run.stage)]
        plan = open_next(plan, {run.run_id or "": loss(number, run) for number, run in enumerate(tuned)})
    return plan
