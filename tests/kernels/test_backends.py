"""Which back end works on what, and the numba back end's bags against the torch one's.

A lookups, B bags, U distinct rows, V width of a row, N rows.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator

import pytest
import torch
from examples import CLOSE, random, random_slots, threads
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from memscale.errors import ConfigError
from memscale.kernels import backends, bags_numba, bags_torch
from memscale.kernels.backends import choose_backend

FLOAT32, BFLOAT16, ON_META = torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1, device="meta")


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have every test choose anew, and those after it too."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    backends._chosen.cache_clear()
    yield
    backends._chosen.cache_clear()


@pytest.mark.parametrize(
    "like, chosen",
    [
        (FLOAT32, "numba"),
        (FLOAT32.double(), "numba"),
        (BFLOAT16, "torch"),
        (FLOAT32.half(), "torch"),
        (ON_META, "torch"),
    ],
)
def test_the_device_and_type_choose_the_back_end(like: Tensor, chosen: str) -> None:
    assert choose_backend(like) == chosen
    assert backends.bags(like).__name__ == f"memscale.kernels.bags_{chosen}"
    assert backends.rows(like).__name__ == f"memscale.kernels.rows_{chosen}"


@pytest.mark.parametrize("installed", [False, True])
def test_a_gpu_has_triton_where_it_is_installed(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if installed else None)
    assert backends._chosen("cuda", torch.bfloat16, None) == ("triton" if installed else "torch")
    assert backends._chosen("cuda", torch.int64, None) == "torch"
    assert backends._chosen("cuda", torch.float32, "torch") == "torch"


def test_the_back_end_asked_for_is_taken() -> None:
    assert choose_backend(FLOAT32, "torch") == "torch"
    assert choose_backend(FLOAT32.double(), "numba") == "numba"
    assert choose_backend(ON_META, "torch") == "torch"
    assert backends.bags(FLOAT32, "torch") is bags_torch
    assert backends.bags(FLOAT32) is bags_numba


def test_what_cannot_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"backend is 'numbra'; valid: torch, numba, triton\. Did you mean 'numba'\?"):
        choose_backend(FLOAT32, "numbra")
    with pytest.raises(ConfigError, match=r"numba back end runs float32 and float64.*given was torch\.bfloat16"):
        choose_backend(BFLOAT16, "numba")
    with pytest.raises(ConfigError, match=r"given was torch\.float32 on meta\. Use torch"):
        choose_backend(ON_META, "numba")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ConfigError, match=r"triton back end runs .* on a GPU .*INTERPRET=1\); given was torch\.float"):
        choose_backend(FLOAT32, "triton")
    with pytest.raises(ConfigError, match=r"given was torch\.int64 on cuda"):
        backends._chosen("cuda", torch.int64, "triton")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    backends._chosen.cache_clear()
    with pytest.raises(ConfigError, match="triton back end needs the package triton"):
        choose_backend(FLOAT32, "triton")


def test_a_choice_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="memscale"):
        for _ in range(3):
            for like in (FLOAT32, torch.ones(2, 3), BFLOAT16):
                choose_backend(like)
                choose_backend(like, "torch")
    said = [record.getMessage() for record in caplog.records]
    assert said == ["memory kernels for float32 on cpu: numba", "memory kernels for bfloat16 on cpu: torch"]


def test_a_choice_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert backends._chosen("cuda", torch.float32, None) == "torch"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert backends._chosen("cuda", torch.float32, None) == "torch"


def assert_grouped_alike(parts: list[Tensor], num_slots: int, num_threads: int = 1) -> None:
    """Grouped by both back ends, and by sorting pairs of slot and place in Python."""
    weights = [torch.arange(part.numel(), dtype=torch.float64).view(part.shape) + 0.5 for part in parts]
    with threads(num_threads):
        found = bags_numba.group_lookups(parts, weights, num_slots)
    for one, two in zip(found, bags_torch.group_lookups(parts, weights, num_slots), strict=True):
        assert one.dtype == two.dtype
        assert torch.equal(one, two)
    rows_U, starts_U1, tokens_A, weights_A = found
    assert rows_U.dtype == starts_U1.dtype == tokens_A.dtype == torch.int64
    token, lookups = 0, []
    for part, weights_TK in zip(parts, weights, strict=True):
        for slots_K, weights_K in zip(part.tolist(), weights_TK.tolist(), strict=True):
            lookups += [(slot, token, weight) for slot, weight in zip(slots_K, weights_K, strict=True)]
            token += 1
    lookups.sort(key=lambda lookup: lookup[0])
    assert rows_U.repeat_interleave(starts_U1.diff()).tolist() == [slot for slot, _, _ in lookups]
    assert list(zip(tokens_A.tolist(), weights_A.tolist(), strict=True)) == [(t, w) for _, t, w in lookups]
    slots_A = torch.cat([part.flatten() for part in parts])
    assert torch.equal(bags_numba.unique_slots(slots_A, num_slots), rows_U)
    assert torch.equal(bags_torch.unique_slots(slots_A, num_slots), rows_U)


@given(
    num_slots=st.one_of(st.integers(1, 300), st.sampled_from([63, 64, 65, 127, 128, 4096, 1_000_003])),
    shapes=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), min_size=1, max_size=3),
    num_threads=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
@example(1, [(50, 1)], 1, 0)
@example(64, [(0, 3)], 2, 0)
@example(64, [(100, 4)], 1, 0)  # every bit of a word
@example(1 << 31, [(250, 4)], 3, 0)
@settings(max_examples=60, deadline=None)
def test_reads_are_grouped_by_slot(num_slots: int, shapes: list[tuple[int, int]], num_threads: int, seed: int) -> None:
    parts = [random_slots(seed + number, num_slots, *shape) for number, shape in enumerate(shapes)]
    if parts[0].numel() > 1:
        parts[0].flatten()[:2] = torch.tensor([num_slots - 1, 0])
    assert_grouped_alike(parts, num_slots, num_threads)


@pytest.mark.parametrize("slot", [0, 63, 64, 99])
def test_reads_of_one_slot_keep_their_order(slot: int) -> None:
    assert_grouped_alike([torch.full((200, 1), slot)], 100, 2)


def test_strided_slots_are_grouped() -> None:
    assert_grouped_alike([random_slots(0, 50, 90, 3)[::3], random_slots(1, 50, 7, 20).t()], 50, 2)


@given(
    lengths=st.lists(st.one_of(st.integers(0, 20), st.sampled_from([33, 100])), max_size=80),
    width=st.one_of(st.integers(1, 40), st.just(300)),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    count=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
@example([], 3, torch.float32, 1, 0)
@example([0, 0], 3, torch.float32, 1, 0)
@example([1, 0, 9, 3] * 70, 9, torch.float32, 3, 0)
@settings(max_examples=40, deadline=None)
def test_bags_of_any_lengths(lengths: list[int], width: int, dtype: torch.dtype, count: int, seed: int) -> None:
    """Positive numbers, so that no sum cancels."""
    offsets_B1 = torch.tensor([0, *lengths]).cumsum(0)
    indices_A = random_slots(seed, 9, int(offsets_B1[-1]))
    rows_NV, weights_A = random(seed, 9, width, dtype=dtype).abs(), random(seed + 1, len(indices_A), dtype=dtype).abs()
    x_BV = random(seed + 2, len(lengths), width, dtype=dtype).abs()
    for name, last in (("embedding_bag", weights_A), ("bag_squared_norm", weights_A), ("per_sample_weight_grad", x_BV)):
        given = (rows_NV, indices_A, offsets_B1, last)
        with threads(count):
            found = getattr(bags_numba, name)(*given)
        expected = getattr(bags_torch, name)(*(part.double() if part.is_floating_point() else part for part in given))
        assert found.dtype == (torch.float64 if name == "bag_squared_norm" else dtype)
        torch.testing.assert_close(found.double(), expected, rtol=CLOSE[dtype], atol=0.0)
        assert torch.equal(getattr(bags_numba, name)(*given), found)
