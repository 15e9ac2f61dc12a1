"""Held-out losses recounted with plain arithmetic, and means that forget nothing."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import SEQUENCE_LENGTH, architecture

from memscale.data.prepared import Prepared
from memscale.models.transformer import build
from memscale.training.metrics import MetricsWindow, Validator, WindowSums
from memscale.training.micro_batch import BatchLoss

CPU = torch.device("cpu")


def test_losses_are_what_plain_arithmetic_gives(prepared: Prepared) -> None:
    model = build(architecture("dense"), seed=0)
    validation = Validator(prepared, SEQUENCE_LENGTH, CPU).measure(model, 4)
    mixture = 0.0
    for name, weight in (("code", 1.0), ("facts", 3.0)):
        windows = prepared.validation(name, sequence_length=SEQUENCE_LENGTH, max_tokens=20 * SEQUENCE_LENGTH)
        by_window = []
        for row in torch.from_numpy(windows.tokens):
            with torch.no_grad():
                logits_SV = model(row[None, :-1]).logits_BSV[0].double()
            probabilities = [logits_SV[i].softmax(-1)[row[i + 1]].item() for i in range(SEQUENCE_LENGTH)]
            by_window.append(-sum(math.log(p) for p in probabilities) / SEQUENCE_LENGTH)
        count = len(by_window)
        mean = sum(by_window) / count
        variance = sum((value - mean) ** 2 for value in by_window) / (count - 1)
        loss = validation.sources[name]
        assert loss.nats_per_token == pytest.approx(mean, rel=1e-5)
        assert loss.nats_stderr == pytest.approx(math.sqrt(variance / count), rel=1e-3)
        bits = sum(by_window) * SEQUENCE_LENGTH / math.log(2)
        assert loss.bits_per_byte == pytest.approx(bits / windows.num_bytes, rel=1e-5)
        mixture += weight / 4.0 * mean
    assert validation.mixture_nats == pytest.approx(mixture, rel=1e-5)


@pytest.mark.parametrize("family", ["dense", "moe", "memory_plus", "looped"])
def test_losses_do_not_depend_on_the_batch_and_leave_the_model_as_it_was(prepared: Prepared, family: str) -> None:
    model = build(architecture(family), seed=0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    validator = Validator(prepared, SEQUENCE_LENGTH, CPU)
    one, all_at_once = validator.measure(model, 1), validator.measure(model, 1000)
    for name, value in one.figures().items():
        assert all_at_once.figures()[name] == pytest.approx(value, rel=1e-5)
    assert one.usage.keys() == all_at_once.usage.keys()
    assert bool(one.usage) == (family != "dense")
    assert model.training
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_interval_taken_up_again_has_the_same_sums() -> None:
    values = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).unbind()
    whole = MetricsWindow(CPU, WindowSums())
    for loss, auxiliary, norm in values:
        whole.add(BatchLoss(loss, auxiliary), norm)
    first = MetricsWindow(CPU, WindowSums())
    for loss, auxiliary, norm in values[:7]:
        first.add(BatchLoss(loss, auxiliary), norm)
    second = MetricsWindow(CPU, first.read())
    for loss, auxiliary, norm in values[7:]:
        second.add(BatchLoss(loss, auxiliary), norm)
    assert second.read() == whole.read()
    means = torch.stack(values).double().mean(dim=0).tolist()
    assert list(whole.read().means().values()) == pytest.approx(means)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_bad_step_is_never_averaged_away(bad: float, which: int) -> None:
    window = MetricsWindow(CPU, WindowSums())
    for step in range(5):
        figures = [torch.tensor(bad if step == 1 and i == which else 1.0) for i in range(3)]
        window.add(BatchLoss(figures[0], figures[1]), figures[2])
    assert not window.read().finite
    window.clear()
    assert window.read() == WindowSums()
