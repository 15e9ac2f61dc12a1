"""Groups, rates, clipping and AdamW itself, each against its definition."""

from __future__ import annotations

import pytest
import torch
from conftest import architecture

from memscale.config.architecture import FAMILIES
from memscale.config.optimizer import Optimizer
from memscale.models.transformer import Transformer, build
from memscale.training.optimizers import build_optimizer, clip_gradients

CONFIG = Optimizer(learning_rate=0.01, weight_decay=0.1, clip_norm=1.0)
TABLE_CONFIG = Optimizer(learning_rate=0.01, table_learning_rate=0.03, weight_decay=0.1, table_weight_decay=0.2)


def model_of(family: str, tied: bool = False) -> Transformer:
    return build(architecture(family, tied=tied), seed=0)


def config_of(model: Transformer) -> Optimizer:
    return TABLE_CONFIG if model.architecture.has_table else CONFIG


def with_gradients(model: Transformer, scale: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_is_in_exactly_one_group(family: str, tied: bool) -> None:
    model = model_of(family, tied)
    optimizer = build_optimizer(model, config_of(model))
    grouped = [id(parameter) for group in optimizer.groups for parameter in group.parameters.values()]
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
        if "table" in name:
            assert config.table_learning_rate is not None
            rate, decay = config.table_learning_rate, config.table_weight_decay
        rate *= 0.5
        expected = before[name] * (1 - rate * decay) - rate * gradient / (gradient.abs() + config.eps)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)


def test_many_steps_are_those_of_torch() -> None:
    """Also when taken up half-way from a checkpoint's moments."""
    ours, theirs, resumed = model_of("memory_plus"), model_of("memory_plus"), model_of("memory_plus")
    optimizer, later = build_optimizer(ours, TABLE_CONFIG), build_optimizer(resumed, TABLE_CONFIG)
    reference = torch.optim.AdamW(
        [
            {
                "params": list(group.parameters.values()),
                "weight_decay": group.weight_decay,
                "lr": group.peak_rate,
                "betas": (TABLE_CONFIG.beta1, TABLE_CONFIG.beta2),
            }
            for group in build_optimizer(theirs, TABLE_CONFIG).groups
        ],
        eps=TABLE_CONFIG.eps,
    )
    for step in range(10):
        for model in (ours, theirs, resumed):
            with_gradients(model, scale=1.0 + step)
        if step == 4:
            for name, moment in later.moments().items():
                moment.copy_(optimizer.moments()[name])
            resumed.load_state_dict(ours.state_dict())
            later.set_num_steps(4)
        optimizer.step(1.0)
        reference.step()
        later.step(1.0)
    for a, b, c in zip(ours.parameters(), theirs.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert torch.equal(a, c)


def test_clipping_scales_all_gradients_to_the_norm_and_only_above_it() -> None:
    model = model_of("memory_plus")
    for scale in (1e-4, 1.0):
        gradients = with_gradients(model, scale)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        assert clip_gradients(model, 1.0) == pytest.approx(norm.item(), rel=1e-5)
        factor = min(1.0, 1.0 / norm.item())
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, gradient * factor)


def test_clip_norm_zero_leaves_gradients_alone_and_still_measures() -> None:
    model = model_of("dense")
    gradients = with_gradients(model)
    assert clip_gradients(model, 0.0) > 1.0
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)


def test_a_gradient_that_is_not_finite_is_not_hidden() -> None:
    model = model_of("dense")
    with_gradients(model)
    first = next(model.parameters())
    assert first.grad is not None
    first.grad.view(-1)[0] = float("nan")
    assert not torch.isfinite(clip_gradients(model, 1.0))
    assert all(
        not torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None
    )
