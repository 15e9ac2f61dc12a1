"""Groups, rates, clipping and AdamW itself, each against its definition."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import architecture

from memscale.config.architecture import FAMILIES
from memscale.config.optimizer import Optimizer
from memscale.kernels.memory_table import MemoryTable
from memscale.models.counts import component
from memscale.models.transformer import Transformer, build
from memscale.training.optimizers import AdamW, build_optimizer

CONFIG = Optimizer(learning_rate=0.01, weight_decay=0.1, clip_norm=1.0)
TABLE_CONFIG = Optimizer(learning_rate=0.01, table_learning_rate=0.03, weight_decay=0.1, table_weight_decay=0.2)


def model_of(family: str, tied: bool = False) -> Transformer:
    return build(architecture(family, tied=tied), seed=0)


def config_of(model: Transformer) -> Optimizer:
    return TABLE_CONFIG if model.architecture.has_table else CONFIG


def with_gradients(model: Transformer, scale: float = 1.0) -> list[torch.Tensor]:
    """Give every parameter a gradient, a table's to its row optimizer; return them."""
    generator = torch.Generator().manual_seed(5)
    gradients = []
    for parameter in model.parameters():
        gradients.append(scale * torch.randn(parameter.shape, generator=generator))
        if isinstance(parameter, MemoryTable) and parameter.row_optimizer is not None:
            slots = torch.arange(len(parameter))[:, None]
            parameter.row_optimizer.gradient.add(slots, torch.ones(len(parameter), 1), gradients[-1])
        else:
            parameter.grad = gradients[-1].clone()
    return gradients


def gradient_of(parameter: torch.Tensor) -> torch.Tensor:
    if isinstance(parameter, MemoryTable) and parameter.row_optimizer is not None:
        return parameter.row_optimizer.gradient.to_dense()
    assert parameter.grad is not None
    return parameter.grad


def optimized(family: str, config: Optimizer | None = None) -> tuple[Transformer, AdamW]:
    model = model_of(family)
    return model, build_optimizer(model, config or config_of(model))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_is_in_exactly_one_group(family: str, tied: bool) -> None:
    model = model_of(family, tied)
    optimizer = build_optimizer(model, config_of(model))
    grouped = [id(parameter) for group in optimizer.groups for parameter in group.parameters.values()]
    if optimizer.rows is not None:
        grouped += [id(dict(model.named_parameters())[name]) for name in optimizer.rows.tables]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_one_step_is_adamw_as_defined(family: str) -> None:
    """After one step from zero moments: p (1 - lr wd) - lr g / (|g| + eps), with each group's rate and decay."""
    model = model_of(family)
    config = config_of(model)
    optimizer = build_optimizer(model, config)
    gradients = with_gradients(model)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer.step(0.5)
    for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
        rate, decay = config.learning_rate, config.weight_decay if parameter.ndim >= 2 else 0.0
        if component(name) == "table":
            assert config.table_learning_rate is not None
            rate, decay = config.table_learning_rate, config.table_weight_decay
        rate *= 0.5
        expected = before[name] * (1 - rate * decay) - rate * gradient / (gradient.abs() + config.eps)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("table_optimizer", ["lazy_adamw", "dense_adamw"])
def test_many_steps_are_those_of_torch(table_optimizer: str) -> None:
    """Also when taken up half-way from a checkpoint's state."""
    config = replace(TABLE_CONFIG, table_optimizer=table_optimizer)
    ours, optimizer = optimized("memory_plus", config)
    resumed, later = optimized("memory_plus", config)
    theirs = model_of("memory_plus")
    rates = {name: 0.03 if "table" in name else 0.01 for name, _ in theirs.named_parameters()}
    decays = {name: 0.2 if "table" in name else 0.1 * (p.ndim >= 2) for name, p in theirs.named_parameters()}
    reference = torch.optim.AdamW(
        [{"params": [p], "weight_decay": decays[n], "lr": rates[n]} for n, p in theirs.named_parameters()],
        betas=(config.beta1, config.beta2),
        eps=config.eps,
    )
    for step in range(10):
        for model in (ours, theirs, resumed):
            with_gradients(model, scale=1.0 + step)
        if step == 4:
            for name, kept in later.state().items():
                kept.copy_(optimizer.state()[name])
            with torch.no_grad():
                for mine, other in zip(resumed.parameters(), ours.parameters(), strict=True):
                    mine.copy_(other)
        for one in (optimizer, later):
            one.step(1.0)
            one.clear_gradients()
        reference.step()
    for a, b, c in zip(ours.parameters(), theirs.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert torch.equal(a, c)


@pytest.mark.parametrize("table_optimizer", ["lazy_adamw", "dense_adamw"])
def test_clipping_scales_all_gradients_to_the_norm_and_only_above_it(table_optimizer: str) -> None:
    model, optimizer = optimized("memory_plus", replace(TABLE_CONFIG, table_optimizer=table_optimizer))
    for scale in (1e-4, 1.0):
        gradients = with_gradients(model, scale)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        assert optimizer.clip(1.0) == pytest.approx(norm.item(), rel=1e-5)
        lr_factor = min(1.0, 1.0 / norm.item())
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            torch.testing.assert_close(gradient_of(parameter), gradient * lr_factor)
        optimizer.clear_gradients()


def test_clip_norm_zero_leaves_gradients_alone_and_still_measures() -> None:
    model, optimizer = optimized("dense")
    gradients = with_gradients(model)
    assert optimizer.clip(0.0) > 1.0
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)


def test_a_gradient_that_is_not_finite_is_not_hidden() -> None:
    model, optimizer = optimized("memory_plus")
    with_gradients(model)
    first = next(parameter for parameter in model.parameters() if not isinstance(parameter, MemoryTable))
    assert first.grad is not None
    first.grad.view(-1)[0] = float("nan")
    assert not torch.isfinite(optimizer.clip(1.0))
    assert all(not torch.isfinite(gradient_of(parameter)).all() for parameter in model.parameters())


@pytest.mark.parametrize("table_optimizer", ["lazy_adamw", "dense_adamw"])
def test_tables_follow_a_schedule_of_their_own_in_rate_and_decay(table_optimizer: str) -> None:
    """Against torch, whose groups get the two rates; taken up half-way from a checkpoint's state."""
    config = replace(TABLE_CONFIG, table_optimizer=table_optimizer)
    ours, optimizer = optimized("memory_plus", config)
    resumed, later = optimized("memory_plus", config)
    theirs = model_of("memory_plus")
    reference = torch.optim.AdamW(
        [
            {"params": [p], "weight_decay": 0.2 if "table" in n else 0.1 * (p.ndim >= 2)}
            for n, p in theirs.named_parameters()
        ],
        betas=(config.beta1, config.beta2),
        eps=config.eps,
    )
    factors = [(1.0, 0.1 * step) for step in range(1, 11)]
    for step, (factor, table_factor) in enumerate(factors):
        for model in (ours, theirs, resumed):
            with_gradients(model, scale=1.0 + step)
        if step == 4:
            for name, kept in later.state().items():
                kept.copy_(optimizer.state()[name])
            with torch.no_grad():
                for mine, other in zip(resumed.parameters(), ours.parameters(), strict=True):
                    mine.copy_(other)
        for one in (optimizer, later):
            one.step(factor, table_factor)
            one.clear_gradients()
        for (name, _), group in zip(theirs.named_parameters(), reference.param_groups, strict=True):
            group["lr"] = 0.03 * table_factor if "table" in name else 0.01 * factor
        reference.step()
    for a, b, c in zip(ours.parameters(), theirs.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert torch.equal(a, c)


@pytest.mark.parametrize("table_optimizer", ["lazy_adamw", "dense_adamw"])
@pytest.mark.parametrize("limit", [0.5, 80.0, 1e9, 0.0])
def test_tables_and_the_rest_are_clipped_apart(table_optimizer: str, limit: float) -> None:
    """As by two calls of torch's clip_grad_norm_; at 80 only the larger of the two norms is above."""
    config = replace(TABLE_CONFIG, table_optimizer=table_optimizer, clipping="apart")
    model, optimizer = optimized("memory_plus", config)
    gradients = with_gradients(model)
    named = {name: gradient for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True)}
    norms = {
        of_table: torch.cat([one.flatten() for name, one in named.items() if ("table" in name) == of_table]).norm()
        for of_table in (True, False)
    }
    assert limit != 80.0 or min(norms.values()) < limit < max(norms.values())
    whole = (norms[True] ** 2 + norms[False] ** 2).sqrt().item()
    assert optimizer.clip(limit) == pytest.approx(whole, rel=1e-5)
    for name, parameter in model.named_parameters():
        factor = min(1.0, limit / norms["table" in name].item()) if limit else 1.0
        torch.testing.assert_close(gradient_of(parameter), named[name] * factor)
