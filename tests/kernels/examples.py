"""What the kernels' tests share: random examples, comparisons with float64, and a look at what torch makes.

T tokens, K slots per token, N rows, V width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CPU_BACKENDS = ("torch", "numba")
CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""Relative to the largest magnitude."""


def random(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def random_slots(seed: int, num_slots: int, *shape: int) -> Tensor:
    return torch.randint(num_slots, shape, generator=torch.Generator().manual_seed(seed))


class Sizes(NamedTuple):
    """Of an example."""

    seed: int
    tokens: int
    lookups: int
    slots: int
    width: int


SIZES = st.builds(
    Sizes,
    seed=st.integers(0, 10_000),
    tokens=st.one_of(st.integers(0, 9), st.just(70)),
    lookups=st.one_of(st.integers(1, 12), st.sampled_from([16, 33, 64])),
    slots=st.one_of(st.integers(1, 5), st.integers(6, 200)),
    width=st.one_of(st.integers(1, 40), st.sampled_from([96, 300, 768, 1000])),
)


def assert_near(actual: Tensor, expected: Tensor, size: Tensor | None = None) -> None:
    """Compare with what float64 gives, relative to its largest or, where sums may cancel, to that of `size`."""
    assert actual.shape == expected.shape
    if expected.numel():
        max_difference = (actual.detach().double() - expected.double()).abs().max()
        assert max_difference <= CLOSE[actual.dtype] * (expected if size is None else size).double().abs().max()


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _MadeDense(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return gradient.to_dense() if gradient.is_sparse else gradient


def with_dense_gradient(x: Tensor) -> Tensor:
    """Return `x`; a sparse gradient is made dense on its way back, for `gradcheck` wants it so."""
    made: Tensor = _MadeDense.apply(x)
    return made


class Largest(TorchDispatchMode):
    """Notes how many values the largest tensor holds that is made; views and sparse tensors hold none of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {part.untyped_storage().data_ptr() for part in args if torch.is_tensor(part) and not part.is_sparse}
        for part in out if isinstance(out, tuple | list) else (out,):
            if torch.is_tensor(part) and not part.is_sparse and part.untyped_storage().data_ptr() not in given:
                self.values = max(self.values, part.numel())
        return out
