"""The product-key selection against a search of the whole grid, ties included."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memscale.errors import ConfigError
from memscale.kernels.lookup import BACKENDS
from memscale.kernels.product_keys import candidate_pairs, select


def brute_force(halves: torch.Tensor, knn: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sort all N x N slots of every token and head by the stated order."""
    _, heads, tokens, _ = halves.shape
    slots = torch.empty(tokens, heads, knn, dtype=torch.int64)
    scores = torch.empty(tokens, heads, knn, dtype=halves.dtype)
    for head in range(heads):
        for token in range(tokens):
            first, second = halves[0, head, token].numpy(), halves[1, head, token].numpy()
            grid = first[:, None] + second[None, :]
            ranks = [np.argsort(np.argsort(-half, kind="stable"), kind="stable") for half in (first, second)]
            rank_first, rank_second = np.meshgrid(*ranks, indexing="ij")
            order = np.lexsort((rank_second.ravel(), rank_first.ravel(), -grid.ravel()))[:knn]
            slots[token, head] = torch.from_numpy(order)
            scores[token, head] = torch.from_numpy(grid.ravel()[order])
    return slots, scores


@st.composite
def half_scores(draw: st.DrawFn) -> tuple[torch.Tensor, int]:
    keys = draw(st.integers(1, 70))
    knn = draw(st.integers(1, keys))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    halves = torch.randn(2, draw(st.integers(1, 3)), draw(st.integers(1, 5)), keys, generator=generator)
    levels = draw(st.sampled_from([0, 1, 3, 20, None]))  # few levels: nearly everything is tied
    return (halves if levels is None else (halves * levels).round()), knn


@given(half_scores())
@settings(max_examples=80, deadline=None)
def test_every_back_end_finds_what_a_search_of_the_whole_grid_finds(example: tuple[torch.Tensor, int]) -> None:
    halves, knn = example
    expected_slots, expected_scores = brute_force(halves, knn)
    for backend in BACKENDS:
        slots, scores = select(halves, knn, backend=backend)
        assert torch.equal(slots, expected_slots), backend
        assert torch.equal(scores, expected_scores), backend


def test_rounded_sums_are_ties() -> None:
    # 1 + 2**-30 is 1 in float32: both first halves give the same sum, and the higher one goes first.
    halves = torch.tensor([[2.0**-30, 2.0**-29], [1.0, 0.0]])[:, None, None]
    for backend in BACKENDS:
        slots, scores = select(halves, 2, backend=backend)
        assert slots.flatten().tolist() == [2, 0]
        assert scores.flatten().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("knn", range(1, 41))
def test_the_candidate_pairs_are_those_with_fewer_than_knn_before_them(knn: int) -> None:
    everything = [(i, j) for i in range(knn) for j in range(knn)]
    assert candidate_pairs(knn) == [(i, j) for i, j in everything if (i + 1) * (j + 1) <= knn]


def test_the_number_of_candidates() -> None:
    assert (len(candidate_pairs(16)), len(candidate_pairs(32))) == (50, 119)


def test_reference_gradients_are_those_of_the_function() -> None:
    halves = torch.randn(2, 2, 3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: select(scores, 5)[1], (halves,))


@given(half_scores(), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_back_ends_agree_in_gradients(example: tuple[torch.Tensor, int], seed: int) -> None:
    gradients = []
    for backend in BACKENDS:
        halves = example[0].clone().requires_grad_()
        slots, scores = select(halves, example[1], backend=backend)
        assert not slots.requires_grad
        scores.backward(torch.randn(scores.shape, generator=torch.Generator().manual_seed(seed)))
        gradients.append(halves.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1, None])
def test_what_is_not_finite_reaches_the_scores_and_selects_real_slots(value: float, side: int | None) -> None:
    halves = torch.randn(2, 2, 3, 40, generator=torch.Generator().manual_seed(0))
    if side is None:
        halves[:] = value
    else:
        halves[side, 1, 2, 17] = value
    slots, scores = select(halves, 8, backend="numba")
    assert scores[2, 1].isnan().all()
    assert bool(((slots >= 0) & (slots < 40 * 40)).all())
    if side is not None:
        assert scores[:, 0].isfinite().all()


def test_more_than_a_half_list_holds_is_refused() -> None:
    with pytest.raises(ConfigError, match="knn is 6; it must lie between 1 and the 5"):
        select(torch.zeros(2, 1, 1, 5), 6)
    with pytest.raises(ConfigError, match=r"\[2, H, T, N\]"):
        select(torch.zeros(3, 1, 1, 5), 2)
