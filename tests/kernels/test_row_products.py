"""Products of tokens with selected rows against plain indexing: values, gradients, bits, memory.

T tokens, K slots per token, N rows, V width.
"""

from __future__ import annotations

import tracemalloc

import pytest
import torch
from examples import (
    CPU_BACKENDS,
    SIZES,
    Largest,
    Sizes,
    assert_near,
    random,
    random_slots,
    threads,
    with_dense_gradient,
)
from hypothesis import example, given, settings
from torch import Tensor

from memscale.errors import ConfigError
from memscale.kernels import row_products as module
from memscale.kernels.row_products import row_products


def inputs(sizes: Sizes, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return a table [N, V], slots [T, K] and x [T, V]."""
    seed, tokens, lookups, slots, width = sizes
    table_NV = random(seed, slots, width, dtype=dtype).requires_grad_()
    x_TV = random(seed + 1, tokens, width, dtype=dtype).requires_grad_()
    return table_NV, random_slots(seed, slots, tokens, lookups), x_TV


def small(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    return inputs(Sizes(0, 6, 4, 9, 8), dtype)


def recount(table_NV: Tensor, slots_TK: Tensor, x_TV: Tensor, gradient_TK: Tensor) -> list[Tensor]:
    """Return products, the table's and the tokens' gradient, by plain indexing in float64."""
    table_NV, x_TV = (tensor.detach().double().requires_grad_() for tensor in (table_NV, x_TV))
    out_TK = (table_NV[slots_TK] * x_TV[:, None]).sum(-1)
    return [out_TK.detach(), *torch.autograd.grad(out_TK, (table_NV, x_TV), gradient_TK.double())]


def assert_agrees(table_NV: Tensor, slots_TK: Tensor, x_TV: Tensor, gradient_TK: Tensor, backend: str) -> None:
    given = (table_NV, slots_TK, x_TV)
    out_TK = row_products(*given, backend=backend)
    for_table, for_x = torch.autograd.grad(out_TK, (table_NV, x_TV), gradient_TK)
    assert for_table.layout == torch.sparse_coo
    assert for_table.is_coalesced()
    assert torch.equal(for_table.indices()[0], slots_TK.unique())
    expected = recount(*given, gradient_TK)
    sizes = recount(table_NV.abs(), slots_TK, x_TV.abs(), gradient_TK.abs())
    for one, two, size in zip((out_TK, for_table.to_dense(), for_x), expected, sizes, strict=True):
        assert one.dtype == table_NV.dtype
        assert_near(one, two, size)


@given(SIZES)
@example(Sizes(0, 0, 3, 5, 7))
@example(Sizes(0, 40, 64, 1, 1000))
@example(Sizes(0, 3, 1, 1, 1))
@settings(max_examples=40, deadline=None)
def test_values_and_gradients_are_those_of_plain_indexing(sizes: Sizes) -> None:
    for backend in CPU_BACKENDS:
        for dtype in (torch.float64, torch.float32):
            gradient_TK = random(sizes.seed + 2, sizes.tokens, sizes.lookups, dtype=dtype)
            assert_agrees(*inputs(sizes, dtype), gradient_TK, backend)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_gradients_are_those_of_the_function(backend: str) -> None:
    table_NV, slots_TK, x_TV = inputs(Sizes(0, 5, 6, 7, 3), torch.float64)
    assert torch.autograd.gradcheck(
        lambda t, x: row_products(with_dense_gradient(t), slots_TK, x, backend=backend), (table_NV, x_TV)
    )


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_rows_whose_products_get_no_gradient_are_touched(backend: str) -> None:
    assert_agrees(*small(), torch.zeros(6, 4), backend)


def test_bits_depend_on_neither_threads_nor_repetition() -> None:
    # 500 tokens and 400 slots are enough bags for three threads; every slot is looked up many times.
    found = []
    for count in (1, 1, 2, 3, 3):
        table_NV, slots_TK, x_TV = inputs(Sizes(3, 500, 11, 400, 33), torch.float32)
        with threads(count):
            out_TK = row_products(table_NV, slots_TK, x_TV, backend="numba")
            out_TK.backward(random(5, 500, 11, dtype=torch.float32))
        found.append((out_TK, table_NV.grad.to_dense(), x_TV.grad))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_strided_inputs_and_expanded_gradients(backend: str) -> None:
    table_NV, slots_TK, x_TV = (tensor.t().contiguous().t() for tensor in small(torch.float64))
    assert_agrees(table_NV, slots_TK, x_TV, torch.tensor(0.7).double().expand(6, 4), backend)
    expanded_TV = random(1, 1, 8).expand(6, 8).requires_grad_()
    assert_agrees(table_NV, slots_TK[:1].expand(6, 4), expanded_TV, random(2, 4, 6).t(), backend)


def test_only_asked_for_gradients_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("not asked for")

    table_NV, slots_TK, x_TV = small()
    with monkeypatch.context() as patch:
        patch.setattr(module, "route_gradient", refused)
        row_products(table_NV.detach(), slots_TK, x_TV, backend="torch").sum().backward()
    assert x_TV.grad is not None
    out_TK = row_products(table_NV, slots_TK, x_TV.detach(), backend="torch")
    monkeypatch.setattr(module, "backends", None)  # the tokens' gradient would be a sum of bags
    out_TK.sum().backward()
    assert table_NV.grad is not None


def test_products_with_bfloat16_tables_and_their_gradients_summed_in_float32() -> None:
    table_NV, slots_TK, x_TV = small(torch.bfloat16)
    gradient_TK = random(1, 6, 4, dtype=torch.bfloat16)
    out_TK = row_products(table_NV, slots_TK, x_TV)
    found = [out_TK, *torch.autograd.grad(out_TK, (table_NV, x_TV), gradient_TK)]
    for one, two in zip(found, recount(table_NV, slots_TK, x_TV, gradient_TK), strict=True):
        assert one.dtype == torch.bfloat16
        assert_near(one.to_dense() if one.is_sparse else one, two)
    # In bfloat16, 256 + 1 is 256.
    row_products(table_NV, torch.full((1000, 1), 4), torch.ones(1000, 8)).backward(torch.ones(1000, 1).bfloat16())
    assert torch.equal(table_NV.grad.to_dense()[4], torch.full((8,), 1000.0).bfloat16())


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_nothing_of_size_tokens_by_slots_by_width_or_of_the_table_is_made(backend: str) -> None:
    table_NV = torch.ones(100_000, 64, requires_grad=True)
    slots_TK, x_TV = 331 * random_slots(0, 300, 400, 32), torch.ones(400, 64, requires_grad=True)
    with Largest() as largest:
        row_products(table_NV, slots_TK, x_TV, backend=backend).sum().backward()
    assert 0 < largest.values <= 400 * 64
    tracemalloc.start()  # NumPy reports its arrays, torch does not
    row_products(table_NV, slots_TK, x_TV, backend=backend).sum().backward()
    _, numpy_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert numpy_bytes < 4 * 400 * 32 * 64 / 10


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("slot", [-1, 9])
def test_a_slot_outside_the_table_is_refused(slot: int, backend: str) -> None:
    table_NV, slots_TK, x_TV = small()
    slots_TK[3, 2] = slot
    with pytest.raises(ConfigError, match=f"{slot}.*the table has 9 rows"):
        row_products(table_NV, slots_TK, x_TV, backend=backend)


def test_wrong_shapes_types_and_back_ends_are_refused() -> None:
    table_NV, slots_TK, x_TV = small()
    with pytest.raises(ConfigError, match=r"needs a table \[N, V\].*\[9, 8\], \[6, 4\] and \[5, 8\]"):
        row_products(table_NV, slots_TK, x_TV[:5])
    with pytest.raises(ConfigError, match=r"\[6, 4\] and \[6, 7\]"):
        row_products(table_NV, slots_TK, x_TV[:, :7])
    with pytest.raises(ConfigError, match=r"given were \[9\], \[6, 4\]"):
        row_products(table_NV[:, 0], slots_TK, x_TV)
    with pytest.raises(ConfigError, match=r"row_products needs slots of type int64; given was torch\.int32"):
        row_products(table_NV, slots_TK.int(), x_TV)
    with pytest.raises(ConfigError, match="Did you mean 'numba'"):
        row_products(table_NV, slots_TK, x_TV, backend="numbra")
    with pytest.raises(ConfigError, match="float32 and float64 on the CPU"):
        row_products(table_NV.bfloat16(), slots_TK, x_TV, backend="numba")


def test_x_is_brought_to_the_tables_type() -> None:
    table_NV, slots_TK, x_TV = small()
    narrow_TV = x_TV.detach().bfloat16().requires_grad_()
    out_TK = row_products(table_NV, slots_TK, narrow_TV)
    out_TK.sum().backward()
    assert out_TK.dtype == torch.float32
    assert_near(out_TK, recount(table_NV, slots_TK, narrow_TV, torch.ones(6, 4))[0])
    assert narrow_TV.grad.dtype == torch.bfloat16
