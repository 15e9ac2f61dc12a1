"""The lookup against plain indexing: values, gradients, bits, memory.

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
from memscale.kernels import bags_torch
from memscale.kernels import embedding_bag as module
from memscale.kernels.embedding_bag import embedding_bag


def inputs(sizes: Sizes, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return a table [N, V], slots [T, K] and weights [T, K]."""
    seed, tokens, lookups, slots, width = sizes
    table_NV = random(seed, slots, width, dtype=dtype).requires_grad_()
    weights_TK = random(seed + 1, tokens, lookups, dtype=dtype).requires_grad_()
    return table_NV, random_slots(seed, slots, tokens, lookups), weights_TK


def small(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    return inputs(Sizes(0, 6, 4, 9, 8), dtype)


def recount(table_NV: Tensor, slots_TK: Tensor, weights_TK: Tensor, gradient_TV: Tensor) -> list[Tensor]:
    """Return values, the table's and the weights' gradient, by plain indexing in float64."""
    table_NV, weights_TK = (tensor.detach().double().requires_grad_() for tensor in (table_NV, weights_TK))
    out_TV = (table_NV[slots_TK] * weights_TK[..., None]).sum(1)
    return [out_TV.detach(), *torch.autograd.grad(out_TV, (table_NV, weights_TK), gradient_TV.double())]


def assert_agrees(table_NV: Tensor, slots_TK: Tensor, weights_TK: Tensor, gradient_TV: Tensor, backend: str) -> None:
    given = (table_NV, slots_TK, weights_TK)
    out_TV = embedding_bag(*given, backend=backend)
    for_table, for_weights = torch.autograd.grad(out_TV, (table_NV, weights_TK), gradient_TV)
    assert for_table.layout == torch.sparse_coo
    assert for_table.is_coalesced()
    assert torch.equal(for_table.indices()[0], slots_TK.unique())
    expected = recount(*given, gradient_TV)
    sizes = recount(table_NV.abs(), slots_TK, weights_TK.abs(), gradient_TV.abs())
    for one, two, size in zip((out_TV, for_table.to_dense(), for_weights), expected, sizes, strict=True):
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
            gradient_TV = random(sizes.seed + 2, sizes.tokens, sizes.width, dtype=dtype)
            assert_agrees(*inputs(sizes, dtype), gradient_TV, backend)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_gradients_are_those_of_the_function(backend: str) -> None:
    table_NV, slots_TK, weights_TK = inputs(Sizes(0, 5, 6, 7, 3), torch.float64)
    assert torch.autograd.gradcheck(
        lambda t, w: embedding_bag(with_dense_gradient(t), slots_TK, w, backend=backend), (table_NV, weights_TK)
    )


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_rows_read_with_a_weight_of_zero_are_touched(backend: str) -> None:
    table_NV, slots_TK, weights_TK = small()
    with torch.no_grad():
        weights_TK.zero_()
    assert_agrees(table_NV, slots_TK, weights_TK, torch.ones(6, 8), backend)


def test_bits_depend_on_neither_threads_nor_repetition() -> None:
    # 500 tokens and 400 slots are enough bags for three threads; every slot is looked up many times.
    found = []
    for count in (1, 1, 2, 3, 3):
        table_NV, slots_TK, weights_TK = inputs(Sizes(3, 500, 11, 400, 33), torch.float32)
        with threads(count):
            out_TV = embedding_bag(table_NV, slots_TK, weights_TK, backend="numba")
            out_TV.backward(random(5, 500, 33, dtype=torch.float32))
        found.append((out_TV, table_NV.grad.to_dense(), weights_TK.grad))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_strided_inputs_and_expanded_gradients(backend: str) -> None:
    table_NV, slots_TK, weights_TK = (tensor.t().contiguous().t() for tensor in small(torch.float64))
    assert_agrees(table_NV, slots_TK, weights_TK, torch.tensor(0.7).double().expand(6, 8), backend)
    expanded_TK = random(1, 6, 1).expand(6, 4).requires_grad_()
    assert_agrees(table_NV, slots_TK[:1].expand(6, 4), expanded_TK, random(2, 8, 6).t(), backend)


def test_only_asked_for_gradients_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("not asked for")

    table_NV, slots_TK, weights_TK = small()
    with monkeypatch.context() as patch:
        patch.setattr(module, "route_gradient", refused)
        embedding_bag(table_NV.detach(), slots_TK, weights_TK, backend="torch").sum().backward()
    assert weights_TK.grad is not None
    monkeypatch.setattr(bags_torch, "per_sample_weight_grad", refused)
    embedding_bag(table_NV, slots_TK, weights_TK.detach(), backend="torch").sum().backward()
    assert table_NV.grad is not None


def test_bfloat16_tables_are_looked_up_and_their_gradients_summed_in_float32() -> None:
    table_NV, slots_TK, weights_TK = small(torch.bfloat16)
    gradient_TV = random(1, 6, 8, dtype=torch.bfloat16)
    out_TV = embedding_bag(table_NV, slots_TK, weights_TK)
    found = [out_TV, *torch.autograd.grad(out_TV, (table_NV, weights_TK), gradient_TV)]
    for one, two in zip(found, recount(table_NV, slots_TK, weights_TK, gradient_TV), strict=True):
        assert one.dtype == torch.bfloat16
        assert_near(one.to_dense() if one.is_sparse else one, two)
    # In bfloat16, 256 + 1 is 256.
    embedding_bag(table_NV, torch.full((1000, 1), 4), torch.ones(1000, 1)).backward(torch.ones(1000, 8).bfloat16())
    assert torch.equal(table_NV.grad.to_dense()[4], torch.full((8,), 1000.0).bfloat16())


def test_the_gradient_of_a_bfloat16_table_is_coalesced_too() -> None:
    table_NV, slots_TK, weights_TK = small(torch.bfloat16)
    (gradient_NV,) = torch.autograd.grad(embedding_bag(table_NV, slots_TK, weights_TK).sum(), (table_NV,))
    assert gradient_NV.dtype == torch.bfloat16
    assert gradient_NV.is_coalesced()
    assert torch.equal(gradient_NV.indices()[0], slots_TK.unique())


def test_weights_are_brought_to_the_tables_type() -> None:
    table_NV, slots_TK, weights_TK = small()
    narrow_TK = weights_TK.detach().bfloat16().requires_grad_()
    out_TV = embedding_bag(table_NV, slots_TK, narrow_TK)
    out_TV.sum().backward()
    assert out_TV.dtype == torch.float32
    assert_near(out_TV, recount(table_NV, slots_TK, narrow_TK, torch.ones(6, 8))[0])
    assert narrow_TK.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_nothing_of_size_tokens_by_slots_by_width_or_of_the_table_is_made(backend: str) -> None:
    table_NV = torch.ones(100_000, 64, requires_grad=True)
    slots_TK, weights_TK = 331 * random_slots(0, 300, 400, 32), torch.ones(400, 32, requires_grad=True)
    with Largest() as largest:
        embedding_bag(table_NV, slots_TK, weights_TK, backend=backend).sum().backward()
    assert 0 < largest.values <= 400 * 64
    tracemalloc.start()  # NumPy reports its arrays, torch does not
    embedding_bag(table_NV, slots_TK, weights_TK, backend=backend).sum().backward()
    _, numpy_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert numpy_bytes < 4 * 400 * 32 * 64 / 10


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("slot", [-1, 9])
def test_a_slot_outside_the_table_is_refused(slot: int, backend: str) -> None:
    table_NV, slots_TK, weights_TK = small()
    slots_TK[3, 2] = slot
    with pytest.raises(ConfigError, match=f"{slot}.*the table has 9 rows"):
        embedding_bag(table_NV, slots_TK, weights_TK, backend=backend)


def test_wrong_shapes_types_and_back_ends_are_refused() -> None:
    table_NV, slots_TK, weights_TK = small()
    with pytest.raises(ConfigError, match=r"needs a table \[N, V\].*\[9, 8\], \[6, 4\] and \[6, 3\]"):
        embedding_bag(table_NV, slots_TK, weights_TK[:, :3])
    with pytest.raises(ConfigError, match=r"given were \[9\], \[6, 4\]"):
        embedding_bag(table_NV[:, 0], slots_TK, weights_TK)
    with pytest.raises(ConfigError, match=r"\[24\] and \[24\]"):
        embedding_bag(table_NV, slots_TK.flatten(), weights_TK.flatten())
    with pytest.raises(ConfigError, match=r"embedding_bag needs slots of type int64; given was torch\.int32"):
        embedding_bag(table_NV, slots_TK.int(), weights_TK)
    with pytest.raises(ConfigError, match="Did you mean 'numba'"):
        embedding_bag(table_NV, slots_TK, weights_TK, backend="numbra")
    with pytest.raises(ConfigError, match="float32 and float64 on the CPU"):
        embedding_bag(table_NV.bfloat16(), slots_TK, weights_TK, backend="numba")
