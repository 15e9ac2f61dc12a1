"""Tucker-decomposed selection against loops over the definition, and its gradients against plain autograd.

T tokens, H heads, R ranks, N half keys per set, K slots selected, W width of a half key.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from examples import random
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memscale.errors import ConfigError
from memscale.kernels import tucker_keys
from memscale.kernels.tucker_keys import leading_vectors, minor_singular_values, tucker_key_topk


def example(seed: int, tokens: int, heads: int, ranks: int, keys: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    shapes = ((tokens, 2, heads, width), (2, heads, ranks, keys, width), (heads, ranks, ranks))
    query, keys_2HRNW, core = (random(seed + i, *shape, dtype=torch.float64) for i, shape in enumerate(shapes))
    return query, keys_2HRNW, core


def by_loops(query: Tensor, keys: Tensor, core: Tensor, knn: int) -> tuple[np.ndarray, np.ndarray]:
    """Slots and scores [T, H, K], pair by pair."""
    query, keys, core = (one.detach().numpy() for one in (query, keys, core))
    tokens, _, heads, _ = query.shape
    ranks, num_keys = keys.shape[2:4]
    slots, scores = np.empty((tokens, heads, knn), dtype=np.int64), np.empty((tokens, heads, knn))
    for t in range(tokens):
        for h in range(heads):
            left, _, right = np.linalg.svd(core[h])
            u, v = left[:, 0], right[0]
            if (u + v).sum() < 0:
                u, v = -u, -v
            row = [[query[t, 0, h] @ keys[0, h, r, i] for r in range(ranks)] for i in range(num_keys)]
            column = [[query[t, 1, h] @ keys[1, h, r, j] for r in range(ranks)] for j in range(num_keys)]
            rows = sorted(range(num_keys), key=lambda i, row=row, u=u: -float(u @ row[i]))[:knn]
            columns = sorted(range(num_keys), key=lambda j, column=column, v=v: -float(v @ column[j]))[:knn]
            pairs = []
            for i in rows:
                for j in columns:
                    score = sum(row[i][r] * core[h, r, s] * column[j][s] for r in range(ranks) for s in range(ranks))
                    pairs.append((-score, i * num_keys + j))
            for k, (negative, slot) in enumerate(sorted(pairs)[:knn]):
                slots[t, h, k], scores[t, h, k] = slot, -negative
    return slots, scores


@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 5)),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_slots_and_scores_are_those_of_the_definition(
    seed: int, sizes: tuple[int, int, int, int, int], data: st.DataObject
) -> None:
    knn = data.draw(st.integers(1, sizes[3]))
    given_tensors = example(seed, *sizes)
    slots, scores = tucker_key_topk(*given_tensors, knn)
    expected_slots, expected_scores = by_loops(*given_tensors, knn)
    assert np.array_equal(slots.numpy(), expected_slots)
    np.testing.assert_allclose(scores.numpy(), expected_scores, atol=1e-12)


@pytest.mark.parametrize("backend", ["torch", "numba", None])
def test_gradients_are_those_of_plain_products(backend: str | None) -> None:
    tensors = [one.requires_grad_() for one in example(5, 7, 2, 3, 6, 4)]
    slots, scores = tucker_key_topk(*tensors, 3, backend=backend)
    upstream = random(9, *scores.shape, dtype=torch.float64)
    found = torch.autograd.grad((scores * upstream).sum(), tensors)
    query, keys, core = tensors
    halves = torch.einsum("tahw,ahrnw->ahtrn", query, keys)
    grid = torch.einsum("htri,hrs,htsj->thij", halves[0], core, halves[1]).flatten(2)
    expected = torch.autograd.grad((grid.gather(-1, slots) * upstream).sum(), tensors)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_tokens_taken_a_few_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = example(1, 11, 2, 2, 8, 4)
    slots, scores = tucker_key_topk(*tensors, 4)
    monkeypatch.setitem(tucker_keys._SCORE_BYTES, "cpu", 3 * 2 * 2 * 2 * 8 * 8)
    again_slots, again_scores = tucker_key_topk(*tensors, 4)
    assert torch.equal(again_slots, slots)
    torch.testing.assert_close(again_scores, scores, rtol=0, atol=1e-12)


def test_scores_are_exact_under_autocast() -> None:
    query, keys, core = (one.float() for one in example(3, 5, 2, 2, 8, 4))
    with torch.autocast("cpu", torch.bfloat16):
        _, scores = tucker_key_topk(query.bfloat16(), keys, core, 3)
    assert scores.dtype == torch.float32
    halves = torch.einsum("tahw,ahrnw->ahtrn", query.bfloat16().float(), keys.bfloat16().float()).bfloat16().float()
    grid = torch.einsum("htri,hrs,htsj->thij", halves[0], core, halves[1]).flatten(2)
    slots, _ = tucker_key_topk(query.bfloat16(), keys, core, 3)
    torch.testing.assert_close(grid.gather(-1, slots), scores, rtol=0.03, atol=0.03)


def test_leading_vectors_approximate_the_core_and_have_a_stated_sign() -> None:
    core = random(0, 40, 3, 3, dtype=torch.float64)
    vectors = leading_vectors(core)
    largest = torch.linalg.svdvals(core)[:, 0]
    torch.testing.assert_close(torch.einsum("hr,hrs,hs->h", vectors[0], core, vectors[1]), largest)
    assert bool((vectors.sum((0, 2)) >= 0).all())
    assert bool((leading_vectors(core.abs()) >= -1e-12).all())  # Perron and Frobenius
    assert minor_singular_values(core).shape == (40, 2)


def test_a_core_that_is_not_finite_is_told_by_the_scores() -> None:
    query, keys, core = example(0, 2, 1, 2, 4, 3)
    core[0, 0, 0] = torch.nan
    slots, scores = tucker_key_topk(query, keys, core, 2)
    assert bool((slots < 16).all() and (slots >= 0).all())
    assert bool(scores.isnan().all())
    assert bool(minor_singular_values(core).isfinite().all())


def test_shapes_that_do_not_match_are_refused() -> None:
    query, keys, core = example(0, 2, 1, 2, 4, 3)
    for wrong in ((query[:, :1], keys, core), (query, keys[:, :, 0], core), (query, keys, core[:, :1])):
        with pytest.raises(ConfigError, match=r"tucker_key_topk needs queries \[T, 2, H, W\]"):
            tucker_key_topk(*wrong, 2)
    with pytest.raises(ConfigError, match="knn is 5; it must lie between 1 and the 4 half keys"):
        tucker_key_topk(query, keys, core, 5)
