"""N-gram tables as they are described: published numbers of rows, sizes that no two share, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memscale.config.token_layers import NGram, next_prime
from memscale.errors import ConfigError

PUBLISHED = [
    # base, orders, layers -> rows of each layer's table: the published demo, and a released checkpoint
    (646_400, (2, 3), (1, 15), (10_344_164, 10_348_242)),
    (16_000_000, (2, 3, 4), (1, 14), (384_006_168, 384_016_682)),
]


def prime_table(base: int, orders: tuple[int, ...], layers: tuple[int, ...], width: int = 80, pad: int = 1) -> NGram:
    return NGram(
        layers=layers, orders=orders, num_heads=8, rows_per_head=base, row_width=width, sizes="prime",
        rows_multiple_of=pad,
    )  # fmt: skip


@pytest.mark.parametrize("base, orders, layers, rows", PUBLISHED)
def test_tables_have_their_published_rows(
    base: int, orders: tuple[int, ...], layers: tuple[int, ...], rows: tuple[int, ...]
) -> None:
    table = prime_table(base, orders, layers)
    assert tuple(table.table_rows(which) for which in range(len(layers))) == rows


def test_the_first_primes_are_the_published_ones() -> None:
    table = prime_table(*PUBLISHED[0][:3])
    assert (table.table_sizes(0)[0], table.table_sizes(1)[0]) == (646_403, 646_631)


def test_a_padded_table_has_its_published_rows() -> None:
    table = prime_table(20_000_000, (2, 3), (1,), pad=128)
    assert (sum(table.table_sizes(0)), table.num_rows) == (320_001_446, 320_001_536)


@pytest.mark.parametrize("base, billions", [(2_262_400, 5.79), (7_239_680, 18.53)])
def test_the_tables_of_the_published_comparison_have_their_printed_size(base: int, billions: float) -> None:
    assert round(prime_table(base, (2, 3), (2, 15)).num_rows * 80 / 1e9, 2) == billions


@given(st.integers(0, 2_000_000))
@settings(max_examples=200, deadline=None)
def test_the_next_prime_is_the_next_number_that_nothing_divides(number: int) -> None:
    def divided(candidate: int) -> bool:
        return candidate < 2 or any(candidate % d == 0 for d in range(2, math.isqrt(candidate) + 1))

    found = next_prime(number)
    assert not divided(found)
    assert all(divided(candidate) for candidate in range(number + 1, found))


@given(
    base=st.integers(1, 5_000), kind=st.sampled_from(("odd", "prime")), num_heads=st.integers(1, 6),
    num_layers=st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_no_two_tables_have_one_size(base: int, kind: str, num_heads: int, num_layers: int) -> None:
    table = NGram(layers=tuple(range(num_layers)), num_heads=num_heads, rows_per_head=base, row_width=1, sizes=kind)
    sizes = [size for which in range(num_layers) for size in table.table_sizes(which)]
    assert len(set(sizes)) == len(sizes) == 2 * num_heads * num_layers
    assert base <= min(sizes)
    assert all(size % 2 for size in sizes if size > 2)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"orders": ()}, "orders is empty"),
        ({"orders": (3, 2)}, "in rising order"),
        ({"orders": (1, 2)}, "at least 2"),
        ({"conv_width": 1}, "a convolution joins two tokens or more"),
        ({"rows_per_head": 0}, "rows_per_head"),
    ],
)
def test_what_no_table_could_be_is_refused(changes: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"layers": (0,), "rows_per_head": 9, "row_width": 2, **changes}
    with pytest.raises(ConfigError, match=said):
        NGram(**given)
