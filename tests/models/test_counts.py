"""Every model of every shipped plan holds exactly the parameters that were planned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from memscale.config.load import load_sweep, sweep_names
from memscale.config.run import Digests
from memscale.models.transformer import Transformer, count_parameters
from memscale.planning.accounting import components
from memscale.planning.budgets import size_knowledge
from memscale.planning.plan import make_plan

SWEEPS = Path(__file__).parents[2] / "sweeps"


@pytest.mark.parametrize("name", sweep_names(SWEEPS))
@pytest.mark.parametrize("scale", ["laptop", "node"])
def test_built_models_hold_what_was_planned(name: str, scale: str) -> None:
    sweep = size_knowledge(load_sweep(name, ["launcher=local", f"scale={scale}"], folder=SWEEPS).sweep)
    plan = make_plan(sweep, Digests(data="d", tokenizer="t", evaluation="e"))
    for architecture in {run.architecture for run in plan.runs}:
        with torch.device("meta"):
            built = count_parameters(Transformer(architecture))
        planned = {part.name: part.params for part in components(architecture, sweep.scale.sequence_length)}
        assert {part: number for part, number in planned.items() if number} == dict(built.components)
