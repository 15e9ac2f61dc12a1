"""The shipped sweeps with overrides, sized as the command line sizes them, and plans of them."""

from __future__ import annotations

from pathlib import Path

from memscale.config.load import load_sweep, sweep_names
from memscale.config.run import Digests
from memscale.config.sweep import Sweep
from memscale.planning.budgets import size_knowledge
from memscale.planning.plan import Plan, choose_rates, make_plan, open_compare

SWEEPS = Path(__file__).parents[2] / "sweeps"
NAMES = sweep_names(SWEEPS)
SCALES = ("laptop", "node", "paper")
DIGESTS = Digests(data="d" * 64, tokenizer="t" * 64, evaluation="e" * 64)


def shipped(name: str, *overrides: str) -> Sweep:
    return size_knowledge(load_sweep(name, ["launcher=local", *overrides], folder=SWEEPS).sweep)


def planned(name: str, *overrides: str) -> Plan:
    return make_plan(shipped(name, *overrides), DIGESTS)


def opened(plan: Plan) -> Plan:
    """With rates chosen from losses that are made up."""
    losses = {run.run_id or "": float(i % 7) for i, run in enumerate(plan.stage("tune"))}
    return open_compare(plan, choose_rates(plan, losses)) if not plan.is_open else plan
