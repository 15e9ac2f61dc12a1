"""Muon against loops from its formula, torch's own and the singular value decomposition; and runs that use it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import architecture
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_trainer import lines, same_weights
from test_weight_average import sparsely_read
from torch.utils.flop_counter import FlopCounterMode
from train_subprocess import do

from memscale.config.architecture import FAMILIES, Architecture
from memscale.config.optimizer import Average, Optimizer, Schedule
from memscale.config.run import Run
from memscale.data.prepared import Prepared
from memscale.models.counts import _COMPONENTS, component
from memscale.models.transformer import Transformer, build
from memscale.planning.forecast import checkpoint_bytes
from memscale.planning.matrices import (
    MATRIX_COMPONENTS,
    matrix_params,
    matrix_shapes,
    muon_flops,
    orthogonalisation_flops,
)
from memscale.records.layout import RunPaths
from memscale.training import checkpoint, muon
from memscale.training.building import build_model
from memscale.training.checkpoint import State
from memscale.training.muon import MuonGroup, heights, orthogonalised
from memscale.training.optimizers import build_optimizer
from tests.planning.architectures import architectures

Matrix = list[list[float]]
VARIANTS = (*FAMILIES, "moe_bias", "memory_ultramem")
RATE, DECAY = 0.03, 0.1


def product(a: Matrix, b: Matrix) -> Matrix:
    return [[sum(a[i][k] * b[k][j] for k in range(len(b))) for j in range(len(b[0]))] for i in range(len(a))]


def naive_orthogonalised(u: Matrix) -> Matrix:
    """Jordan (2024), in loops: x <- a x + b (x x') x + c (x x') (x x') x, five times."""
    norm = sum(value * value for row in u for value in row) ** 0.5
    x = [[value / norm for value in row] for row in u]
    for _ in range(5):
        s = product(x, [list(column) for column in zip(*x, strict=True)])
        sx = product(s, x)
        ssx = product(s, sx)
        x = [
            [3.4445 * x[i][j] - 4.7750 * sx[i][j] + 2.0315 * ssx[i][j] for j in range(len(x[0]))] for i in range(len(x))
        ]
    return x


def naive_steps(w: Matrix, gradients: list[Matrix], rates: list[float], decay: float) -> Matrix:
    """Jordan's momentum, sum of .95^age g, with Nesterov's look ahead, and the scale of Liu et al. (2025)."""
    rows, columns = len(w), len(w[0])
    m = [[0.0] * columns for _ in range(rows)]
    for g, rate in zip(gradients, rates, strict=True):
        m = [[0.95 * m[i][j] + g[i][j] for j in range(columns)] for i in range(rows)]
        o = naive_orthogonalised([[g[i][j] + 0.95 * m[i][j] for j in range(columns)] for i in range(rows)])
        step = rate * 0.2 * max(rows, columns) ** 0.5
        w = [[w[i][j] * (1 - rate * decay) - step * o[i][j] for j in range(columns)] for i in range(rows)]
    return w


def by_hand(name: str, tensor: torch.Tensor, model: Transformer) -> list[torch.Tensor]:
    """The matrices of the published layers, from the parameters that hold several of them."""
    a = model.architecture
    if "qkv" in name:
        q, kv = a.num_heads * a.head_width, a.num_kv_heads * a.head_width
        return [tensor[:q], tensor[q : q + kv], tensor[q + kv :]]
    if re.search(r"(slot|beside)\.out", name) and a.memory is not None:
        width = a.memory.value_width
        return [tensor[:, first : first + width] for first in range(0, tensor.shape[1], width)]
    experts = list(tensor) if tensor.ndim == 3 else [tensor]
    if "gate_up" in name or "key_value" in name:
        return [half for one in experts for half in (one[: len(one) // 2], one[len(one) // 2 :])]
    return experts


def group_of(model: Transformer) -> MuonGroup:
    table_rate = 0.02 if model.architecture.has_table else None
    config = Optimizer(learning_rate=RATE, weight_decay=DECAY, table_learning_rate=table_rate, matrix_optimizer="muon")
    (group,) = (one for one in build_optimizer(model, config).groups if isinstance(one, MuonGroup))
    return group


@pytest.mark.parametrize("at_once", [1 << 24, 300])
@pytest.mark.parametrize("family", ["dense", "moe_bias", "memory_plus", "memory_ultramem"])
def test_steps_are_those_of_the_formula_in_loops(family: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps in float64: every expert, queries, keys, values, gates and ups apart, in several parts or one."""
    monkeypatch.setattr(muon, "_AT_ONCE", at_once)
    model = build(replace(architecture(family), ffn_hidden=9, num_layers=3), seed=0, dtype=torch.float64)
    group = group_of(model)
    before = {name: parameter.detach().clone() for name, parameter in group.parameters.items()}
    generator, factors = torch.Generator().manual_seed(3), [0.5, 1.0, 0.25]
    gradients: dict[str, list[torch.Tensor]] = {name: [] for name in group.parameters}
    for factor in factors:
        for name, parameter in group.parameters.items():
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            gradients[name].append(parameter.grad.clone())
        group.step(factor)
    for name, parameter in group.parameters.items():
        held = zip(*(by_hand(name, one, model) for one in (before[name], *gradients[name])), strict=True)
        for (w, *given_here), now in zip(held, by_hand(name, parameter.detach(), model), strict=True):
            expected = naive_steps(
                w.tolist(), [one.tolist() for one in given_here], [RATE * one for one in factors], DECAY
            )
            torch.testing.assert_close(now, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-11)


@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_singular_vectors_stay_and_singular_values_become_about_one(n: int, rows: int, columns: int, seed: int) -> None:
    u = torch.randn(n, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    left, values, right = torch.linalg.svd(u, full_matrices=False)
    found = left.mT @ orthogonalised(u) @ right.mT
    new = torch.diagonal(found, dim1=1, dim2=2)
    torch.testing.assert_close(found, torch.diag_embed(new), rtol=0, atol=1e-9)
    share = values / torch.linalg.matrix_norm(u)[:, None]
    assert new[share > 0.01].min() > 0.65
    assert new.max() < 1.25
    assert new.min() >= 0


def test_zero_stays_zero_and_the_size_of_a_gradient_does_not_matter() -> None:
    assert not orthogonalised(torch.zeros(1, 3, 4)).any()
    u = torch.randn(1, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalised(1e-3 * u), orthogonalised(u), rtol=1e-9, atol=1e-12)


def test_steps_are_those_of_torch_to_the_rounding_of_its_bfloat16() -> None:
    generator = torch.Generator().manual_seed(1)
    theirs, ours = (torch.nn.Parameter(torch.ones(12, 20)) for _ in range(2))
    reference = torch.optim.Muon([theirs], lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    group = MuonGroup(parameters={"w": ours}, peak_rate=RATE, weight_decay=DECAY, heights={"w": (12,)})
    for _ in range(10):
        theirs.grad = torch.randn(12, 20, generator=generator)
        ours.grad = theirs.grad.clone()
        reference.step()
        group.step(1.0)
    moved = (ours.detach() - 1).abs().max()
    assert (ours - theirs).abs().max() < 0.03 * moved


def test_the_flops_are_those_that_torch_counts() -> None:
    for rows, columns in ((7, 12), (12, 7), (5, 5)):
        with FlopCounterMode(display=False) as counter:
            orthogonalised(torch.randn(3, rows, columns))
        assert counter.get_total_flops() == 3 * orthogonalisation_flops(rows, columns)


@pytest.mark.parametrize("family", VARIANTS)
def test_muon_takes_the_matrices_of_the_blocks_and_nothing_else(family: str) -> None:
    model = build(architecture(family, tied=True), seed=0)
    group = group_of(model)
    others = {name for name, _ in model.named_parameters()} - group.parameters.keys()
    assert all(parameter.ndim in (2, 3) for parameter in group.parameters.values())
    left_out = (
        "embedding.weight",
        "head.weight",
        "table",
        ".keys",
        "norm.weight",
        ".bias",
        "router.weight",
        "ngram.conv",
        ".core",
        "query_conv.weight",
        "injection.weight",
    )
    assert not any(name.endswith(left_out) for name in group.parameters)
    assert all(name.endswith(left_out) for name in others)
    assert group.state().keys() == {f"momenta.{name}" for name in group.parameters}
    for name, parameter in group.parameters.items():
        assert sum(heights(name, parameter, model.architecture)) == parameter.shape[-2]


def test_of_every_component_it_is_decided_whether_it_is_a_matrix() -> None:
    """A new component has to be named here, in `memscale.planning.matrices`, or both."""
    with_adamw = {
        "embedding", "lm_head", "table", "norm", "router", "injection", "key_scoring", "query_conv", "ngram_conv",
    }  # fmt: skip
    assert {name for name, _ in _COMPONENTS} == MATRIX_COMPONENTS | with_adamw
    assert not MATRIX_COMPONENTS & with_adamw


@given(architectures())
@settings(max_examples=100, deadline=None)
def test_matrices_are_counted_from_formulas_as_in_the_model(a: Architecture) -> None:
    with torch.device("meta"):
        model = Transformer(a)
    held = [
        (name, parameter)
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and component(name) in MATRIX_COMPONENTS
    ]
    shapes = Counter(tuple(one.shape) for name, parameter in held for one in by_hand(name, parameter, model))
    assert matrix_shapes(a) == shapes
    assert matrix_params(a) == sum(parameter.numel() for _, parameter in held)
    flops = sum(number * 5 * 2 * min(s) ** 2 * (2 * max(s) + min(s)) for s, number in shapes.items())
    assert muon_flops(a) == flops


def with_muon(run: Run, **changes: str | float) -> Run:
    return replace(run, optimizer=replace(run.optimizer, matrix_optimizer="muon", **changes))


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_falls_on_three_seeds(
    tmp_path: Path, prepared: Prepared, make_run: Callable[..., Run], family: str
) -> None:
    for seed in (1, 2, 3):
        do(replace(with_muon(make_run(family, num_steps=25)), seed=seed), tmp_path / str(seed), prepared)
        losses = [value for *_, split, name, value in lines(tmp_path / str(seed)) if (split, name) == ("train", "loss")]
        assert losses[-1] < losses[0] - 0.8, seed


@pytest.mark.parametrize("family", ["dense", "moe", "memory_plus", "peer"])
def test_stopped_anywhere_and_resumed_gives_the_same_bits(
    tmp_path: Path, prepared: Prepared, make_run: Callable[..., Run], family: str
) -> None:
    """With everything else of a recipe that is new, and averaged weights: rows of tables wait for their updates."""
    run = replace(sparsely_read(with_muon(make_run(family))), average=Average(fraction=0.5, every=2), init="published")
    if run.architecture.has_table:
        run = with_muon(run, clipping="apart", table_weight_decay=0.1)
        run = replace(run, table_schedule=Schedule(warmup_fraction=0.2, decay_fraction=0.8, final_fraction=0.25))
    undisturbed = do(run, tmp_path / "undisturbed", prepared)
    for stop_after in (1, 5, 9):
        root = tmp_path / str(stop_after)
        do(run, root, prepared, stop_after=stop_after)
        resumed = do(run, root, prepared)
        assert same_weights(resumed, undisturbed)
        assert lines(root) == lines(tmp_path / "undisturbed")
    loaded = build_model(run)
    assert checkpoint.load_weights(RunPaths(tmp_path / "undisturbed").checkpoints, run, loaded) == run.num_steps
    assert all(torch.equal(*pair) for pair in zip(loaded.parameters(), undisturbed.model.parameters(), strict=True))


@pytest.mark.parametrize("family", ["dense", "moe_bias", "memory_plus"])
def test_micro_batches_give_the_same_step_to_rounding(
    tmp_path: Path, prepared: Prepared, make_run: Callable[..., Run], family: str
) -> None:
    run = with_muon(make_run(family, num_steps=1))
    run = replace(run, optimizer=replace(run.optimizer, eps=1e-3))  # AdamW would scale rounding noise up to whole steps
    whole = do(run, tmp_path / "whole", prepared)
    parts = do(run, tmp_path / "parts", prepared, micro_batch_sequences=2)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6)


@pytest.mark.parametrize("table_optimizer", ["lazy_adamw", "dense_adamw"])
def test_the_trainer_follows_the_tables_schedule_and_writes_its_rate(
    tmp_path: Path, prepared: Prepared, make_run: Callable[..., Run], table_optimizer: str
) -> None:
    """Rates that rise to the very end move rows less than the model's schedule does."""
    run = make_run("memory_plus", num_steps=8)
    run = replace(run, optimizer=replace(run.optimizer, table_optimizer=table_optimizer), init="published")
    late = replace(run, table_schedule=Schedule(warmup_fraction=1.0, decay_fraction=0.0))
    begun = build(run.architecture, seed=run.seed, init="published")
    one = do(late, tmp_path, prepared)
    rates = [value for *_, name, value in lines(tmp_path) if name == "table_learning_rate"]
    assert rates == pytest.approx([2e-2 * (step + 1) / 8 for step in range(8)])
    other = do(run, tmp_path / "other", prepared)
    assert "table_learning_rate" not in {name for *_, name, _ in lines(tmp_path / "other")}
    moved = [(trained.model.table - begun.table).abs().mean().item() for trained in (one, other)]
    assert 0.3 * moved[1] < moved[0] < 0.9 * moved[1]


def test_a_run_begins_with_the_weights_of_its_rule(make_run: Callable[..., Run]) -> None:
    run = replace(make_run("memory_plus"), init="published")
    expected = build(run.architecture, seed=run.seed, init="published")
    for ours, theirs in zip(build_model(run).parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_bfloat16_as_on_a_gpu_gives_singular_values_of_about_one_too() -> None:
    u = torch.randn(2, 24, 40, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(u, full_matrices=False)
    found = left.mT @ orthogonalised(u.bfloat16()).float() @ right.mT
    new = torch.diagonal(found, dim1=1, dim2=2)
    assert (found - torch.diag_embed(new)).abs().max() < 0.05
    assert 0.6 < new.min() < new.max() < 1.3


@pytest.mark.parametrize("family", ["dense", "moe"])
def test_a_checkpoint_has_the_bytes_that_are_forecast(
    tmp_path: Path, make_run: Callable[..., Run], family: str
) -> None:
    run = with_muon(make_run(family))
    model = build_model(run)
    state = State(step=1, micro_batch_sequences=1, hardware="here")
    saved = checkpoint.save(tmp_path, run, model, build_optimizer(model, run.optimizer), state)
    written = sum(
        len(one.numpy().tobytes()) for file in saved.glob("*.safetensors") for one in load_file(file).values()
    )
    total = sum(parameter.numel() for parameter in model.parameters())
    assert written == checkpoint_bytes(total, matrix_params(run.architecture))
