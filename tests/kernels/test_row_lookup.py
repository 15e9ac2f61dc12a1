"""Rows read one by one: against indexing, with gradients, with a row optimizer, refused where they do not fit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memscale.errors import ConfigError
from memscale.kernels.memory_table import MemoryTable
from memscale.kernels.row_adamw import RowAdamW
from memscale.kernels.row_lookup import row_lookup


@given(
    num_rows=st.integers(1, 20), width=st.integers(1, 5), num_tokens=st.integers(0, 9), reads=st.integers(1, 4),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_rows_and_gradients_are_those_of_indexing(
    num_rows: int, width: int, num_tokens: int, reads: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    slots = torch.randint(num_rows, (num_tokens, reads), generator=generator)
    upstream = torch.randn(num_tokens, reads * width, generator=generator, dtype=torch.float64)
    found = torch.randn(num_rows, width, generator=generator, dtype=torch.float64, requires_grad=True)
    expected = found.detach().clone().requires_grad_()
    ours, theirs = row_lookup(found, slots), expected[slots].flatten(1)
    assert torch.equal(ours, theirs)
    ours.backward(upstream)
    theirs.backward(upstream)
    assert found.grad is not None
    torch.testing.assert_close(found.grad.to_dense(), expected.grad, rtol=0, atol=1e-12)


def test_a_row_optimizer_gets_the_gradient_and_autograd_stores_none() -> None:
    table = MemoryTable(torch.randn(7, 3))
    optimizer = RowAdamW({"table": table})
    row_lookup(table, torch.tensor([[1, 5], [5, 5]])).sum().backward()
    assert table.grad is None
    assert table.row_optimizer is not None
    counts = torch.tensor([0.0, 1, 0, 0, 0, 3, 0])
    assert torch.equal(table.row_optimizer.gradient.to_dense(), counts[:, None].expand(7, 3))
    before = table.detach().clone()
    optimizer.step(1e-3)
    assert (table != before).any(dim=1).tolist() == [False, True, False, False, False, True, False]


@pytest.mark.parametrize(
    "slots, said",
    [
        (torch.tensor([0, 1]), "needs a table"),
        (torch.tensor([[0.0]]), "int64"),
        (torch.tensor([[4]]), "slots run from 4 to 4"),
        (torch.tensor([[-1]]), "slots run from -1 to -1"),
    ],
)
def test_slots_that_do_not_fit_are_refused(slots: torch.Tensor, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        row_lookup(torch.zeros(4, 2), slots)
