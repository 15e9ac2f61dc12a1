"""Tables that are addressed by tokens: hashed n-grams, and one row a token.

Their addresses depend on the text alone, not on what the model computes, so that a row costs its bytes and no search.
Each is a frozen description that the planner counts and `memscale.models` builds. Refuses what cannot be built: orders
that do not rise, sizes that no table could have.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from memscale.config.checks import require
from memscale.config.ranges import Checked, Heads, LayerIndex, OneOf, Range, Seed, Slots, Width

TABLE_SIZES = ("odd", "prime")
TOKEN_USES = ("gated", "up", "values")

TableSizes = Annotated[str, OneOf(TABLE_SIZES)]
TokenUse = Annotated[str, OneOf(TOKEN_USES)]
Order = Annotated[int, Range(2, 64, "an order is a number of tokens; one token alone is a token table")]
ConvWidth = Annotated[int, Range(0, 64, "each token reads as many earlier ones; 0 is none")]


@dataclass(frozen=True, kw_only=True)
class NGram(Checked):
    """Hashed n-gram memory before the attention of some layers (Engram, Cheng et al. 2026, arXiv 2601.07372).

    The last n tokens, for each order n, are hashed by `num_heads` functions to a row each. The rows are concatenated to
    e, of width `memory_width`, and the residual stream gets sigmoid(g) W_V e, where g compares it with W_K e
    (`memscale.models.ngram`). Heads and orders have their own rows, all in one table a layer.
    """

    layers: tuple[LayerIndex, ...]
    """0-based indices of the layers with this part."""
    orders: tuple[Order, ...] = (2, 3)
    """Numbers of tokens that are hashed together, rising."""
    num_heads: Heads = 8
    """Hash functions for each order."""
    rows_per_head: Slots
    """Rows of one head and order, at least: their numbers are all different (`table_sizes`)."""
    row_width: Width
    """Width of a row."""
    sizes: TableSizes = "odd"
    """`odd`: rows_per_head (the next odd number), and two more for each head that follows; `prime`: the primes from
    rows_per_head on, as published. No number of rows is used twice, in any layer."""
    signed_root: bool = True
    """Whether g is replaced by sign(g) sqrt(|g|) before the sigmoid, as in the published code."""
    conv_width: ConvWidth = 0
    """Tokens of a causal depthwise convolution over the output, at distances of the largest order; 0: none."""
    rows_multiple_of: Width = 1
    """The rows of a table are rounded up to a multiple of it, for kernels that need one; what is added is unused."""
    hash_seed: Seed = 0
    """The hash functions of layer l are drawn from hash_seed + 10,007 l."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.orders) > 0, "orders is empty; name at least one, such as 2")
        require(
            list(self.orders) == sorted(set(self.orders)),
            f"orders is {list(self.orders)}; each comes once, in rising order",
        )
        require(self.conv_width != 1, "conv_width is 1, but a convolution joins two tokens or more; 0 is none")

    @property
    def num_reads(self) -> int:
        """Rows that a token reads in one layer."""
        return len(self.orders) * self.num_heads

    @property
    def memory_width(self) -> int:
        """Width of the concatenated rows."""
        return self.num_reads * self.row_width

    def table_sizes(self, which: int) -> tuple[int, ...]:
        """Return the rows of every order and head, [num_reads], of the layer `layers[which]`."""
        sizes = _all_sizes(self.sizes, self.rows_per_head, self.num_reads * len(self.layers))
        return sizes[which * self.num_reads : (which + 1) * self.num_reads]

    def table_rows(self, which: int) -> int:
        """Return the rows of the table of the layer `layers[which]`."""
        return -(-sum(self.table_sizes(which)) // self.rows_multiple_of) * self.rows_multiple_of

    @property
    def num_rows(self) -> int:
        """Rows of all tables."""
        return sum(self.table_rows(which) for which in range(len(self.layers)))


@dataclass(frozen=True, kw_only=True)
class TokenTable(Checked):
    """A table with a row for each token of the vocabulary, in some layers; what a row does is `use`.

    `gated`: the residual stream gets, after the feed-forward layer, W_out(gelu(W_gate x) * row) (per-layer embeddings
    of Gemma 3n). `up`: the row takes the place of the up projection of the SwiGLU, W_down(silu(W_gate x) * row) (STEM,
    arXiv 2601.10639); it is as wide as the hidden layer. `values`: the row is added to the values of attention (value
    embeddings of modded-nanogpt, 2024); it is as wide as all of them.
    """

    layers: tuple[LayerIndex, ...]
    """0-based indices of the layers with this part."""
    use: TokenUse = "gated"
    row_width: Width
    """Width of a row."""


@lru_cache(maxsize=256)
def _all_sizes(kind: str, least: int, count: int) -> tuple[int, ...]:
    """Return `count` different numbers of rows from `least` on."""
    if kind == "odd":
        first = least | 1
        return tuple(range(first, first + 2 * count, 2))
    sizes: list[int] = []
    number = least - 1
    while len(sizes) < count:
        number = next_prime(number)
        sizes.append(number)
    return tuple(sizes)


_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
"""Bases of the Miller-Rabin test that decide every number below 3.3e24 (Sorenson and Webster 2015)."""


def next_prime(number: int) -> int:
    """Return the smallest prime above `number`.

    Example:
        >>> next_prime(646_399)
        646403
    """
    candidate = number + 1
    while not _is_prime(candidate):
        candidate += 1
    return candidate


def _is_prime(number: int) -> bool:
    if number < 2:
        return False
    for base in _BASES:
        if number % base == 0:
            return number == base
    odd, halvings = number - 1, 0
    while odd % 2 == 0:
        odd, halvings = odd // 2, halvings + 1
    return all(_is_witnessed(base, odd, halvings, number) for base in _BASES)


def _is_witnessed(base: int, odd: int, halvings: int, number: int) -> bool:
    """Whether `base` finds nothing against `number` = odd x 2^halvings + 1 being prime."""
    power = pow(base, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(halvings - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False
