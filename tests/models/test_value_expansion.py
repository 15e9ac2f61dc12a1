"""Virtual tables: every virtual slot is one row with one projection, and sums are those of single values."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memscale.models.value_expansion import VirtualTables


@given(root=st.integers(1, 40), side=st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_the_permutation_reaches_every_row_with_every_projection_once(root: int, side: int) -> None:
    virtual = VirtualTables(root**2, side**2)
    permuted = virtual.permuted(torch.arange(root**2 * side**2))
    pairs = set(zip(virtual.rows(permuted).tolist(), (permuted // root**2).tolist(), strict=True))
    assert pairs == {(row, table) for row in range(root**2) for table in range(side**2)}


def test_neighbours_have_different_projections_and_large_tables_do_not_overflow() -> None:
    virtual = VirtualTables(100**2, 4)
    tables = virtual.permuted(torch.arange(40_000)) // 100**2
    assert float((tables[1:] == tables[:-1]).double().mean()) < 0.01
    for rows in (2**15, 2**24):
        large = VirtualTables(rows**2, 16)
        last = 16 * rows**2 - 1
        assert 0 <= int(large.permuted(torch.tensor([last]))) <= last
        assert math.gcd(large._multiplier, 16 * rows**2) == 1
        assert int(large.permuted(torch.tensor([last]))) == last * large._multiplier % (16 * rows**2)


@pytest.mark.parametrize("tables", [4, 9])
def test_sums_by_projection_add_up_to_the_sum_of_virtual_values(tables: int) -> None:
    generator = torch.Generator().manual_seed(0)
    values, weights = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((25, 3), (6, 8)))
    projections = torch.randn((tables, 3, 5), generator=generator, dtype=torch.float64)
    slots = torch.randint(25 * tables, (6, 8), generator=generator)
    sums = VirtualTables(25, tables).sums(values, slots, weights)
    expected = torch.stack(
        [
            sum(weights[t, k] * values[slots[t, k] % 25] @ projections[slots[t, k] // 25] for k in range(8))
            for t in range(6)
        ]
    )
    torch.testing.assert_close(torch.einsum("tev,evd->td", sums, projections), expected)
