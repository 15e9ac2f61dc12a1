"""The lookup against plain indexing: values, gradients, bits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memscale.errors import ConfigError
from memscale.kernels.lookup import BACKENDS, choose_backend, lookup


def plain(table: torch.Tensor, slots: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (table[slots] * weights[..., None]).sum(dim=1)


def example(
    seed: int, tokens: int, reads: int, slots: int, width: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(slots, width, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weights = torch.randn(tokens, reads, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    return table, torch.randint(slots, (tokens, reads), generator=generator), weights


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_reference_gradients_are_those_of_the_function() -> None:
    table, slots, weights = example(0, 5, 6, 7, 3, torch.float64)
    assert torch.autograd.gradcheck(lambda t, w: lookup(t, slots, w), (table, weights))


@given(
    seed=st.integers(0, 10_000),
    tokens=st.integers(0, 300),
    reads=st.integers(1, 11),
    slots=st.integers(1, 40),
    width=st.integers(1, 35),
)
@settings(max_examples=30, deadline=None)
def test_every_back_end_agrees_with_plain_indexing(seed: int, tokens: int, reads: int, slots: int, width: int) -> None:
    exact = example(seed, tokens, reads, slots, width, torch.float64)
    out_gradient = torch.randn(tokens, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = plain(*exact)
    expected.backward(out_gradient)
    for backend in BACKENDS:
        table, at, weights = example(seed, tokens, reads, slots, width, torch.float32)
        out = lookup(table, at, weights, backend=backend)
        out.backward(out_gradient.float())
        torch.testing.assert_close(out, expected.float(), rtol=1e-5, atol=2e-5)
        torch.testing.assert_close(weights.grad, exact[2].grad.float(), rtol=1e-5, atol=2e-5)
        torch.testing.assert_close(table.grad, exact[0].grad.float(), rtol=1e-5, atol=1e-4)


def test_bits_depend_on_neither_threads_nor_repetition(threads: int) -> None:
    # 500 tokens and 200 slots are enough rows for three threads; every slot is read many times.
    gradients = []
    for count in (1, threads, threads):
        torch.set_num_threads(count)
        table, slots, weights = example(3, 500, 8, 200, 16, torch.float32)
        out = lookup(table, slots, weights, backend="numba")
        out.backward(torch.cos(out.detach()))
        gradients.append((out, table.grad, weights.grad))
    for other in gradients[1:]:
        assert all(torch.equal(one, two) for one, two in zip(gradients[0], other, strict=True))


def test_only_asked_for_gradients_are_computed() -> None:
    table, slots, weights = example(0, 4, 4, 9, 8, torch.float32)
    lookup(table.detach(), slots, weights).sum().backward()
    assert table.grad is None
    assert weights.grad is not None


def test_strided_inputs_and_gradients() -> None:
    table, slots, weights = example(0, 6, 4, 9, 8, torch.float32)
    strided = lookup(table.t().contiguous().t(), slots.t().contiguous().t(), weights.t().contiguous().t())
    torch.testing.assert_close(strided, plain(table, slots, weights))
    strided.sum().backward()  # the gradient is one number, expanded
    torch.testing.assert_close(weights.grad, table.detach()[slots].sum(-1))


@pytest.mark.parametrize("slot", [-1, 9])
def test_a_slot_outside_the_table_is_refused(slot: int) -> None:
    table, slots, weights = example(0, 6, 4, 9, 8, torch.float32)
    slots[3, 2] = slot
    with pytest.raises(ConfigError, match=f"{slot}.*9 rows"):
        lookup(table, slots, weights, backend="numba")


def test_wrong_shapes_types_and_back_ends_are_refused() -> None:
    table, slots, weights = example(0, 6, 4, 9, 8, torch.float32)
    with pytest.raises(ConfigError, match=r"\[6, 4\] and \[6, 3\]"):
        lookup(table, slots, weights[:, :3])
    with pytest.raises(ConfigError, match="int64"):
        lookup(table, slots.int(), weights)
    with pytest.raises(ConfigError, match="Did you mean 'numba'"):
        lookup(table, slots, weights, backend="numbra")
    with pytest.raises(ConfigError, match="float32 on the CPU"):
        lookup(table.double(), slots, weights, backend="numba")


def test_the_device_and_type_choose_the_back_end() -> None:
    assert choose_backend(torch.zeros(1)) == "numba"
    assert choose_backend(torch.zeros(1, dtype=torch.float64)) == "torch"
    assert choose_backend(torch.zeros(1, device="meta")) == "torch"
