"""Products of tokens with selected rows against plain indexing: values, gradients, bits, memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from memscale.errors import ConfigError
from memscale.kernels.lookup import BACKENDS
from memscale.kernels.row_products import row_products


def plain(table: torch.Tensor, slots: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (table[slots] * x[:, None]).sum(dim=-1)


def example(
    seed: int, tokens: int, reads: int, slots: int, width: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(slots, width, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    x = torch.randn(tokens, width, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    return table, torch.randint(slots, (tokens, reads), generator=generator), x


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore:Input #.* is not a double precision")
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_are_those_of_the_function(backend: str) -> None:
    # Numba computes in float32: its function is linear in each input, so wide steps cost no exactness.
    exact = backend == "torch"
    dtype = torch.float64 if exact else torch.float32
    table, slots, x = example(0, 5, 6, 7, 3, dtype)
    assert torch.autograd.gradcheck(
        lambda t, y: row_products(t, slots, y, backend=backend),
        (table, x),
        eps=1e-6 if exact else 0.25,
        atol=1e-8 if exact else 2e-5,
        rtol=1e-6 if exact else 1e-5,
    )


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
    out_gradient = torch.randn(tokens, reads, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = plain(*exact)
    expected.backward(out_gradient)
    for backend, dtype in (("torch", torch.float64), ("torch", torch.float32), ("numba", torch.float32)):
        table, at, x = example(seed, tokens, reads, slots, width, dtype)
        out = row_products(table, at, x, backend=backend)
        out.backward(out_gradient.to(dtype))
        rounding = {"rtol": 1e-5, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-10}
        torch.testing.assert_close(out, expected.to(dtype), **rounding)
        torch.testing.assert_close(x.grad, exact[2].grad.to(dtype), **rounding)
        torch.testing.assert_close(table.grad, exact[0].grad.to(dtype), **rounding)


def test_bits_depend_on_neither_threads_nor_repetition(threads: int) -> None:
    found = []
    for count in (1, threads, threads):
        torch.set_num_threads(count)
        table, slots, x = example(3, 500, 8, 200, 16, torch.float32)
        out = row_products(table, slots, x, backend="numba")
        out.backward(torch.cos(out.detach()))
        found.append((out, table.grad, x.grad))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_asked_for_gradients_are_computed(backend: str) -> None:
    table, slots, x = example(0, 4, 4, 9, 8, torch.float32)
    row_products(table.detach(), slots, x, backend=backend).sum().backward()
    assert table.grad is None
    assert x.grad is not None
    x.grad = None
    row_products(table, slots, x.detach(), backend=backend).sum().backward()
    assert table.grad is not None
    assert x.grad is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_inputs_and_gradients(backend: str) -> None:
    table, slots, x = example(0, 6, 4, 9, 8, torch.float32)
    strided = (table.t().contiguous().t(), slots.t().contiguous().t(), x.t().contiguous().t())
    out = row_products(*strided, backend=backend)
    torch.testing.assert_close(out, plain(table, slots, x))
    out.sum().backward()  # the gradient is one number, expanded
    torch.testing.assert_close(x.grad, table.detach()[slots].sum(1))
    expected = torch.zeros_like(table).index_add(0, slots.flatten(), x.detach().repeat_interleave(4, 0))
    torch.testing.assert_close(table.grad, expected)


class Sizes(TorchDispatchMode):
    """Notes how many values each tensor holds that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, tuple) else (out,):
            self.largest = max(self.largest, part.numel() if torch.is_tensor(part) else 0)
        return out


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_of_size_tokens_by_slots_by_width_is_made(backend: str) -> None:
    table, slots, x = example(0, 400, 32, 10, 64, torch.float32)
    numpy_bytes = 0
    for _ in range(2):  # the first time, modules are loaded
        tracemalloc.start()
        with Sizes() as sizes:
            row_products(table, slots, x, backend=backend).sum().backward()
        _, numpy_bytes = tracemalloc.get_traced_memory()  # NumPy reports its arrays, torch does not
        tracemalloc.stop()
    assert 0 < sizes.largest <= 400 * 64
    assert numpy_bytes < 4 * 400 * (32 + 64) + 100_000 < 4 * 400 * 32 * 64 / 10


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("slot", [-1, 9])
def test_a_slot_outside_the_table_is_refused(slot: int, backend: str) -> None:
    table, slots, x = example(0, 6, 4, 9, 8, torch.float32)
    slots[3, 2] = slot
    with pytest.raises(ConfigError, match=f"{slot}.*9 rows"):
        row_products(table, slots, x, backend=backend)


def test_wrong_shapes_types_and_back_ends_are_refused() -> None:
    table, slots, x = example(0, 6, 4, 9, 8, torch.float32)
    with pytest.raises(ConfigError, match=r"\[6, 4\] and \[5, 8\]"):
        row_products(table, slots, x[:5])
    with pytest.raises(ConfigError, match=r"\[6, 4\] and \[6, 7\]"):
        row_products(table, slots, x[:, :7])
    with pytest.raises(ConfigError, match="int64"):
        row_products(table, slots.int(), x)
    with pytest.raises(ConfigError, match="Did you mean 'numba'"):
        row_products(table, slots, x, backend="numbra")
    with pytest.raises(ConfigError, match="float32 on the CPU"):
        row_products(table.double(), slots, x, backend="numba")


def test_x_is_brought_to_the_tables_type() -> None:
    table, slots, x = example(0, 6, 4, 9, 8, torch.float32)
    out = row_products(table, slots, x.bfloat16())
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, plain(table, slots, x.bfloat16().float()))
    out.sum().backward()
    assert x.grad is not None
