"""The product-key selection against a search of the whole grid, ties included, and its gradients against autograd.

T tokens, H heads, N half keys per set, K slots selected, W width of a half key.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from examples import CPU_BACKENDS, Largest, assert_near, random, threads
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memscale.errors import ConfigError
from memscale.kernels import product_keys
from memscale.kernels.product_keys import candidate_pairs, product_key_topk, topk_pairs

BACKENDS = pytest.mark.parametrize("backend", CPU_BACKENDS)


def brute_force(halves_2HTN: Tensor, knn: int) -> tuple[Tensor, Tensor]:
    """Sort all N x N slots of every token and head by the stated order."""
    _, heads, tokens, _ = halves_2HTN.shape
    slots = torch.empty(tokens, heads, knn, dtype=torch.int64)
    scores = torch.empty(tokens, heads, knn, dtype=halves_2HTN.dtype)
    for head in range(heads):
        for token in range(tokens):
            first, second = halves_2HTN[0, head, token].numpy(), halves_2HTN[1, head, token].numpy()
            grid = first[:, None] + second[None, :]
            ranks = [np.argsort(np.argsort(-half, kind="stable"), kind="stable") for half in (first, second)]
            rank_first, rank_second = np.meshgrid(*ranks, indexing="ij")
            order = np.lexsort((rank_second.ravel(), rank_first.ravel(), -grid.ravel()))[:knn]
            slots[token, head] = torch.from_numpy(order)
            scores[token, head] = torch.from_numpy(grid.ravel()[order])
    return slots, scores


def half_scores(query_T2HW: Tensor, keys_2HNW: Tensor) -> Tensor:
    return torch.einsum("tahw,ahnw->ahtn", query_T2HW, keys_2HNW)


@st.composite
def halves_and_knn(draw: st.DrawFn) -> tuple[Tensor, int]:
    keys = draw(st.integers(1, 70))
    knn = draw(st.integers(1, keys))
    shape = (2, draw(st.integers(1, 3)), draw(st.integers(0, 5)), keys)
    halves = random(draw(st.integers(0, 10_000)), *shape, dtype=draw(st.sampled_from([torch.float32, torch.float64])))
    levels = draw(st.sampled_from([0, 1, 3, 20, None]))  # few levels: nearly everything is tied
    return (halves if levels is None else (halves * levels).round()), knn


@given(halves_and_knn())
@settings(max_examples=80, deadline=None)
def test_the_best_pairs_are_those_of_a_search_of_the_whole_grid(example: tuple[Tensor, int]) -> None:
    halves, knn = example
    expected_slots, expected_scores = brute_force(halves, knn)
    for backend in CPU_BACKENDS:
        slots, scores = topk_pairs(halves, knn, backend=backend)
        assert torch.equal(slots, expected_slots), backend
        assert torch.equal(scores, expected_scores), backend


def whole_numbers(
    seed: int, tokens: int, heads: int, keys: int, width: int, largest: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Return queries [T, 2, H, W] and keys [2, H, N, W] whose products are exact, and often equal."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((tokens, 2, heads, width), (2, heads, keys, width))
    query, keys_2HNW = (torch.randint(-largest, largest + 1, shape, generator=generator).to(dtype) for shape in shapes)
    return query, keys_2HNW


@given(
    seed=st.integers(0, 10_000),
    tokens=st.integers(0, 6),
    heads=st.integers(1, 3),
    keys=st.integers(1, 50),
    width=st.integers(1, 5),
    largest=st.integers(0, 3),
    share=st.floats(0.0, 1.0),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
@settings(max_examples=50, deadline=None)
def test_the_selection_is_that_of_a_search_of_the_whole_grid(
    seed: int, tokens: int, heads: int, keys: int, width: int, largest: int, share: float, dtype: torch.dtype
) -> None:
    knn = max(1, round(share * keys))
    query_T2HW, keys_2HNW = whole_numbers(seed, tokens, heads, keys, width, largest, dtype)
    wide = torch.promote_types(dtype, torch.float32)
    expected_slots, expected_scores = brute_force(half_scores(query_T2HW.to(wide), keys_2HNW.to(wide)), knn)
    for backend in CPU_BACKENDS:
        slots, scores = product_key_topk(query_T2HW, keys_2HNW, knn, backend=backend)
        assert torch.equal(slots, expected_slots), backend
        assert scores.dtype == wide
        assert torch.equal(scores, expected_scores), backend


def test_rounded_sums_are_ties() -> None:
    # 1 + 2**-30 is 1 in float32: both first halves give the same sum, and the higher one goes first.
    halves = torch.tensor([[2.0**-30, 2.0**-29], [1.0, 0.0]])[:, None, None]
    for backend in CPU_BACKENDS:
        slots, scores = topk_pairs(halves, 2, backend=backend)
        assert slots.flatten().tolist() == [2, 0]
        assert scores.flatten().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("knn", range(1, 41))
def test_the_candidate_pairs_are_those_with_fewer_than_knn_before_them(knn: int) -> None:
    everything = [(i, j) for i in range(knn) for j in range(knn)]
    assert candidate_pairs(knn) == [(i, j) for i, j in everything if (i + 1) * (j + 1) <= knn]


def test_the_number_of_candidates() -> None:
    assert (len(candidate_pairs(16)), len(candidate_pairs(32))) == (50, 119)


def recount(slots_THK: Tensor, query_T2HW: Tensor, keys_2HNW: Tensor, gradient_THK: Tensor) -> list[Tensor]:
    """Return scores of the slots and the gradients of queries and keys, through all half scores, in float64."""
    query, keys = (tensor.detach().double().requires_grad_() for tensor in (query_T2HW, keys_2HNW))
    halves_2THN = half_scores(query, keys).transpose(1, 2)
    num_keys = keys.shape[2]
    scores = halves_2THN[0].gather(-1, slots_THK // num_keys) + halves_2THN[1].gather(-1, slots_THK % num_keys)
    return [scores.detach(), *torch.autograd.grad(scores, (query, keys), gradient_THK.double())]


def assert_gradients(query_T2HW: Tensor, keys_2HNW: Tensor, gradient_THK: Tensor, backend: str) -> None:
    query, keys = query_T2HW.requires_grad_(), keys_2HNW.requires_grad_()
    slots, scores = product_key_topk(query, keys, gradient_THK.shape[2], backend=backend)
    assert not slots.requires_grad
    found = [scores, *torch.autograd.grad(scores, (query, keys), gradient_THK)]
    expected = recount(slots, query, keys, gradient_THK)
    sizes = recount(slots, query.abs(), keys.abs(), gradient_THK.abs())
    assert [tensor.dtype for tensor in found[1:]] == [query.dtype, keys.dtype]
    for one, two, size in zip(found, expected, sizes, strict=True):
        assert_near(one, two, size)


@given(
    seed=st.integers(0, 10_000),
    tokens=st.sampled_from([0, 1, 7, 150]),
    heads=st.integers(1, 3),
    keys=st.integers(1, 30),
    width=st.sampled_from([1, 3, 8, 33]),
    share=st.floats(0.0, 1.0),
)
@settings(max_examples=30, deadline=None)
def test_scores_and_gradients_are_those_of_autograd(
    seed: int, tokens: int, heads: int, keys: int, width: int, share: float
) -> None:
    knn = max(1, round(share * keys))
    for backend in CPU_BACKENDS:
        for dtype in (torch.float64, torch.float32):
            query_T2HW = random(seed, tokens, 2, heads, width, dtype=dtype)
            keys_2HNW = random(seed + 1, 2, heads, keys, width, dtype=dtype)
            assert_gradients(query_T2HW, keys_2HNW, random(seed + 2, tokens, heads, knn, dtype=dtype), backend)


@BACKENDS
def test_gradients_are_those_of_the_function(backend: str) -> None:
    query, keys = random(0, 3, 2, 2, 4).requires_grad_(), random(1, 2, 2, 9, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, k: product_key_topk(q, k, 5, backend=backend)[1], (query, keys))


@BACKENDS
def test_strided_inputs_expanded_gradients_and_mixed_types(backend: str) -> None:
    query_T2HW, keys_2HNW = random(0, 4, 2, 5, 3).permute(2, 3, 1, 0)[:, :2], random(1, 4, 9, 2, 2).permute(2, 3, 1, 0)
    assert_gradients(query_T2HW, keys_2HNW, torch.tensor(0.7).double().expand(5, 2, 3), backend)
    assert_gradients(query_T2HW, keys_2HNW.float(), random(2, 3, 2, 5).permute(2, 1, 0), backend)
    narrow = [random(seed, *shape).bfloat16() for seed, shape in enumerate([(5, 2, 2, 4), (2, 2, 9, 4)])]
    slots, scores = product_key_topk(narrow[0].requires_grad_(), narrow[1].requires_grad_(), 3, backend=backend)
    scores.sum().backward()
    expected = recount(slots, *narrow, torch.ones(5, 2, 3))
    for one, two in zip((scores.bfloat16(), narrow[0].grad, narrow[1].grad), expected, strict=True):
        assert_near(one, two)


@BACKENDS
@pytest.mark.parametrize("tokens_at_once", [1, 7, 30])
def test_tokens_are_scored_a_few_at_a_time(tokens_at_once: int, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query_T2HW, keys_2HNW = whole_numbers(0, 30, 3, 40, 5, 2)
    expected = product_key_topk(query_T2HW, keys_2HNW, 9, backend=backend)
    monkeypatch.setattr(product_keys, "_SCORE_BYTES", {"cpu": tokens_at_once * 2 * 3 * 40 * 4})
    scored = []

    def noted(halves_2HTN: Tensor, *given: int, **named: str) -> tuple[Tensor, Tensor]:
        scored.append(halves_2HTN.shape[2])
        return topk_pairs(halves_2HTN, *given, **named)

    monkeypatch.setattr(product_keys, "topk_pairs", noted)
    found = product_key_topk(query_T2HW, keys_2HNW, 9, backend=backend)
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))
    assert sum(scored) == 30
    assert max(scored) == tokens_at_once
    monkeypatch.setattr(product_keys, "_SCORE_BYTES", {"cpu": 1})  # less than one token's
    found = product_key_topk(query_T2HW, keys_2HNW, 9, backend=backend)
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


def test_bits_depend_on_neither_threads_nor_repetition() -> None:
    found = []
    for count in (1, 1, 2, 3):
        query = random(0, 300, 2, 2, 16, dtype=torch.float32).requires_grad_()
        keys = random(1, 2, 2, 50, 16, dtype=torch.float32).requires_grad_()
        with threads(count):
            slots, scores = product_key_topk(query, keys, 9, backend="numba")
            scores.backward(random(2, 300, 2, 9, dtype=torch.float32))
        found.append((slots, scores, query.grad, keys.grad))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@BACKENDS
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_not_finite_in_a_query_reaches_its_scores(value: float, side: int, backend: str) -> None:
    query_T2HW, keys_2HNW = random(0, 5, 2, 2, 4, dtype=torch.float32), random(1, 2, 2, 40, 4, dtype=torch.float32)
    expected_slots, expected_scores = product_key_topk(query_T2HW, keys_2HNW, 8, backend=backend)
    query_T2HW[2, side, 1, 3] = value
    slots, scores = product_key_topk(query_T2HW, keys_2HNW, 8, backend=backend)
    assert not scores[2, 1].isfinite().any()
    assert bool(((slots >= 0) & (slots < 40 * 40)).all())
    others = torch.ones(5, 2, dtype=torch.bool)
    others[2, 1] = False
    assert torch.equal(scores[others], expected_scores[others])
    assert torch.equal(slots[others], expected_slots[others])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1, None])
def test_one_half_score_that_is_not_finite_makes_all_scores_nan(value: float, side: int | None) -> None:
    """In the numba back end; torch's has NaN or infinity among them, unless it is a minus infinity not selected."""
    halves = random(0, 2, 2, 3, 40, dtype=torch.float32)
    if side is None:
        halves[:] = value
    else:
        halves[side, 1, 2, 17] = value
    slots, scores = topk_pairs(halves, 8, backend="numba")
    assert scores[2, 1].isnan().all()
    assert bool(((slots >= 0) & (slots < 40 * 40)).all())
    if side is not None:
        assert scores[:, 0].isfinite().all()
        if value != -math.inf:
            assert not topk_pairs(halves, 8, backend="torch")[1][2, 1].isfinite().all()


@BACKENDS
def test_neither_all_pairs_nor_gradients_of_all_half_scores_are_made(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, heads, keys, knn = 300, 2, 100, 16
    query, keys_2HNW = random(0, tokens, 2, heads, 8).requires_grad_(), random(1, 2, heads, keys, 8).requires_grad_()
    monkeypatch.setattr(product_keys, "_SCORE_BYTES", {"cpu": 10 * 2 * heads * keys * 8})
    with Largest() as forward:
        _, scores = product_key_topk(query, keys_2HNW, knn, backend=backend)
    assert 0 < forward.values <= 2 * heads * tokens * knn < 2 * heads * tokens * keys
    with Largest() as backward:
        scores.sum().backward()
    assert 0 < backward.values <= 2 * heads * tokens * knn


def test_what_does_not_fit_is_refused() -> None:
    query_T2HW, keys_2HNW = torch.zeros(3, 2, 1, 4), torch.zeros(2, 1, 5, 4)
    for knn in (0, 6):
        with pytest.raises(ConfigError, match=f"knn is {knn}; it must lie between 1 and the 5 half keys of a set"):
            product_key_topk(query_T2HW, keys_2HNW, knn)
    needs = r"product_key_topk needs queries \[T, 2, H, W\] and keys \[2, H, N, W\]; given were "
    for query, keys, given_were in (
        (query_T2HW[:, :1], keys_2HNW, r"\[3, 1, 1, 4\] and \[2, 1, 5, 4\]"),
        (query_T2HW[:, :1], keys_2HNW[:1], r"\[3, 1, 1, 4\] and \[1, 1, 5, 4\]"),
        (query_T2HW.expand(3, 2, 2, 4), keys_2HNW, r"\[3, 2, 2, 4\] and \[2, 1, 5, 4\]"),
        (query_T2HW[..., :3], keys_2HNW, r"\[3, 2, 1, 3\] and \[2, 1, 5, 4\]"),
        (query_T2HW[:, :, 0], keys_2HNW, r"\[3, 2, 4\] and \[2, 1, 5, 4\]"),
        (query_T2HW, keys_2HNW[:, 0], r"\[3, 2, 1, 4\] and \[2, 5, 4\]"),
    ):
        with pytest.raises(ConfigError, match=needs + given_were):
            product_key_topk(query, keys, 2)
    with pytest.raises(ConfigError, match="Did you mean 'numba'"):
        product_key_topk(query_T2HW, keys_2HNW, 2, backend="numbra")
