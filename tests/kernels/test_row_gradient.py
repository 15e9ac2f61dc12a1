"""The gradient of a table, as it accumulates for a row optimizer, against plain indexing in float64.

T tokens, K slots per token, N rows, V width.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from examples import CPU_BACKENDS, assert_near, random, random_slots, threads
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memscale.kernels import bags_torch
from memscale.kernels.embedding_bag import embedding_bag
from memscale.kernels.memory_table import MemoryTable
from memscale.kernels.row_adamw import RowAdamW
from memscale.kernels.row_gradient import RowGradient
from memscale.kernels.row_products import row_products

Part = tuple[Tensor, Tensor, Tensor]
"""Slots [T, K], weights [T, K] and token gradients [T, V]."""

TYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
BACKENDS = pytest.mark.parametrize("backend", CPU_BACKENDS)


def parts_of(
    seed: int, num_parts: int, tokens: int, lookups: int, slots: int, width: int, dtype: torch.dtype = torch.float64
) -> list[Part]:
    return [
        (
            random_slots(seed + part, slots, tokens, lookups),
            random(seed + 10 + part, tokens, lookups, dtype=dtype),
            random(seed + 20 + part, tokens, width, dtype=dtype),
        )
        for part in range(num_parts)
    ]


def recount(num_slots: int, parts: list[Part]) -> Tensor:
    """Return the dense gradient [N, V] in float64."""
    sum_NV = torch.zeros(num_slots, parts[0][2].shape[1], dtype=torch.float64)
    for slots_TK, weights_TK, x_TV in parts:
        terms_TKV = weights_TK[..., None].double() * x_TV[:, None].double()
        sum_NV.index_add_(0, slots_TK.flatten(), terms_TKV.flatten(0, 1))
    return sum_NV


def gradient_of(num_slots: int, parts: list[Part], backend: str | None = None) -> RowGradient:
    gradient = RowGradient(num_slots, backend=backend)
    for part in parts:
        gradient.add(*part)
    return gradient


@TYPES
@BACKENDS
def test_the_row_optimizer_has_the_gradient_of_all_layers_and_micro_batches(backend: str, dtype: torch.dtype) -> None:
    initial_NV = random(0, 40, 33, dtype=dtype)
    table = MemoryTable(initial_NV.clone())
    gradient = RowAdamW({"t": table}, backend=backend).tables["t"].gradient
    plain_NV = initial_NV.double().requires_grad_()
    for micro_batch in range(3):
        slots_TK, weights_TK, x_TV = parts_of(100 * micro_batch, 1, 30, 5, 40, 33, dtype)[0]

        def loss(look_up: Callable[..., Tensor], multiply: Callable[..., Tensor], table_NV: Tensor) -> Tensor:
            """Three layers, each on what the one before makes of it."""
            weights = weights_TK.to(table_NV.dtype).requires_grad_()  # noqa: B023
            first_TV = look_up(table_NV, slots_TK, weights)  # noqa: B023
            products_TK = multiply(table_NV, (slots_TK + 1) % 40, torch.tanh(first_TV))  # noqa: B023
            last_TV = look_up(table_NV, (slots_TK * 3) % 40, torch.tanh(products_TK))  # noqa: B023
            return (last_TV * x_TV.to(table_NV.dtype)).sum()  # noqa: B023

        loss(
            lambda *given: embedding_bag(*given, backend=backend),
            lambda *given: row_products(*given, backend=backend),
            table,
        ).backward()
        loss(
            lambda rows, at, weights: (rows[at] * weights[..., None]).sum(1),
            lambda rows, at, x: (rows[at] * x[:, None]).sum(-1),
            plain_NV,
        ).backward()
    assert table.grad is None
    assert len(gradient.tensors()) == 3  # nine parts would be larger than the table
    assert plain_NV.grad is not None
    assert_near(gradient.to_dense(), plain_NV.grad)


@given(
    seed=st.integers(0, 1000),
    num_parts=st.integers(1, 6),
    tokens=st.integers(0, 12),
    lookups=st.integers(1, 20),
    slots=st.sampled_from([1, 2, 30, 64, 65, 1000]),
    width=st.integers(1, 20),
)
@settings(max_examples=40, deadline=None)
def test_any_parts_add_up_to_the_recount(
    seed: int, num_parts: int, tokens: int, lookups: int, slots: int, width: int
) -> None:
    parts = parts_of(seed, num_parts, tokens, lookups, slots, width)
    magnitudes = recount(slots, [(at, weights.abs(), x.abs()) for at, weights, x in parts])
    expected = recount(slots, parts)
    for backend in CPU_BACKENDS:
        gradient = gradient_of(slots, parts, backend)
        to_sparse = gradient.to_sparse()
        assert to_sparse.is_coalesced()
        assert torch.equal(to_sparse.indices()[0], torch.cat([part[0].flatten() for part in parts]).unique())
        assert_near(gradient.to_dense(), expected, magnitudes)
        norm = gradient.squared_norm()
        assert (norm.dtype, norm.shape) == (torch.float64, ())
        assert_near(norm, expected.square().sum(), magnitudes.square().sum())
        assert_near(gradient.to_dense(), expected, magnitudes)


@TYPES
@BACKENDS
def test_parts_larger_than_the_table_are_summed_up_and_others_are_kept(backend: str, dtype: torch.dtype) -> None:
    parts = parts_of(0, 6, 20, 4, 15, 8, dtype)
    small, large = RowGradient(15, backend=backend), RowGradient(100_000, backend=backend)
    for number, part in enumerate(parts, start=1):
        for gradient in (small, large):
            gradient.add(*part)
        assert len(large.tensors()) == 3 * number
        assert len(small.tensors()) == 3
        if number > 1:
            assert small.tensors()[2].shape == (15, 8)
        assert_near(small.to_dense(), recount(15, parts[:number]))
        assert_near(large.to_dense()[:15], recount(15, parts[:number]))


def test_parts_are_kept_as_they_are_but_float32_at_least() -> None:
    part = parts_of(0, 1, 5, 3, 1000, 8, torch.float32)[0]
    kept = gradient_of(1000, [part]).tensors()
    assert all(one.data_ptr() == two.data_ptr() for one, two in zip(kept, part, strict=True))
    narrow = gradient_of(1000, [(part[0], part[1].bfloat16(), part[2].bfloat16())])
    assert [tensor.dtype for tensor in narrow.tensors()] == [torch.int64, torch.float32, torch.float32]


@TYPES
@BACKENDS
@pytest.mark.parametrize("num_read, num_kept", [(5000, 6), (20, 3)])
def test_the_squared_norm_for_few_and_many_reads_of_a_row(
    num_read: int, num_kept: int, backend: str, dtype: torch.dtype
) -> None:
    # 600 lookups: little more than one per row of 5,000 that is looked up at all, 30 per row of 20, which are summed.
    parts = parts_of(0, 2, 100, 3, num_read, 70, dtype)
    gradient, squared_norm = gradient_of(5000, parts, backend), recount(5000, parts).square().sum()
    for _ in range(2):
        assert_near(gradient.squared_norm().to(dtype), squared_norm)
        assert len(gradient.tensors()) == num_kept
    assert_near(gradient.to_dense(), recount(5000, parts))
    gradient.scale = torch.tensor(0.5)
    assert_near(gradient.squared_norm().to(dtype), squared_norm)


@pytest.mark.parametrize("scale", [0.5, torch.tensor(0.5), torch.tensor(0.5, dtype=torch.float64)])
def test_a_scale_counts_for_the_whole_gradient(scale: float | Tensor) -> None:
    parts = parts_of(0, 2, 5, 3, 30, 8, torch.float32)
    gradient = gradient_of(30, parts)
    gradient.scale = scale
    assert gradient.to_dense().dtype == torch.float32
    assert_near(gradient.to_dense(), recount(30, parts) / 2)


def test_adding_after_clipping_is_a_mistake() -> None:
    table = MemoryTable(random(0, 30, 8))
    optimizer = RowAdamW({"t": table})
    gradient = optimizer.tables["t"].gradient
    part = parts_of(0, 1, 5, 3, 30, 8)[0]
    gradient.add(*part)
    optimizer.scale_gradients(torch.tensor(0.5))
    with pytest.raises(AssertionError, match="after it was clipped"):
        gradient.add(*part)
    optimizer.clear_gradients()
    gradient.add(*part)
    assert_near(gradient.to_dense(), recount(30, [part]))


def test_clearing_forgets_everything() -> None:
    parts = parts_of(0, 3, 5, 3, 30, 8)
    gradient = gradient_of(30, parts[:2])
    assert gradient
    assert gradient.lookups() is gradient.lookups()
    gradient.scale = torch.tensor(0.5)
    gradient.clear()
    assert not gradient
    assert gradient.lookups() is None
    assert gradient.tensors() == []
    assert gradient.squared_norm() == 0.0
    gradient.add(*parts[2])
    assert_near(gradient.to_dense(), recount(30, parts[2:]))


def test_a_gradient_that_is_added_to_after_it_was_read_has_all() -> None:
    parts = parts_of(0, 3, 5, 3, 30, 8)
    gradient = RowGradient(30)
    for number, part in enumerate(parts, start=1):
        gradient.add(*part)
        assert_near(gradient.squared_norm(), recount(30, parts[:number]).square().sum())
        assert_near(gradient.to_dense(), recount(30, parts[:number]))


@pytest.mark.parametrize("num_slots", [300, 100_000])
def test_bits_depend_on_neither_threads_nor_repetition(num_slots: int) -> None:
    parts = parts_of(0, 4, 300, 7, num_slots, 33, torch.float32)
    found = []
    for count in (1, 1, 2, 3):
        with threads(count):
            gradient = gradient_of(num_slots, parts, "numba")
            norm, to_sparse = gradient.squared_norm(), gradient.to_sparse()
        found.append((norm, to_sparse.indices(), to_sparse.values()))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@pytest.mark.parametrize("num_slots", [1 << 31, 1 << 33])
def test_slots_of_any_size_are_put_in_order(num_slots: int) -> None:
    slots_TK = torch.tensor([[num_slots - 1, 3], [0, num_slots - 1]])
    weights_TK = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    rows_U, starts_U1, tokens_A, weights_A = bags_torch.group_lookups([slots_TK], [weights_TK], num_slots)
    assert rows_U.tolist() == bags_torch.unique_slots(slots_TK.flatten(), num_slots).tolist() == [0, 3, num_slots - 1]
    assert starts_U1.tolist() == [0, 1, 2, 4]
    assert tokens_A.tolist() == [1, 0, 0, 1]
    assert weights_A.tolist() == [3.0, 2.0, 1.0, 4.0]
