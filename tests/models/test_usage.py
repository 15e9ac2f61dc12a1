"""Usage statistics against counts by hand."""

from __future__ import annotations

import math

import pytest
import torch
from naive_model import FAMILIES, tokens_of

from memscale.models.transformer import build
from memscale.models.usage import Usage


def test_even_use_has_no_divergence_and_single_use_the_most() -> None:
    even, single = Usage(8), Usage(8)
    even.add(torch.full((8,), 3.0))
    single.add_at(torch.tensor([[5, 5], [5, 5]]), torch.ones(2, 2))
    assert even.kl_from_uniform == pytest.approx(0.0, abs=1e-12)
    assert (even.used_share, even.max_share) == (1.0, 0.125)
    assert single.kl_from_uniform == pytest.approx(math.log(8))
    assert (single.used_share, single.max_share) == (0.125, 1.0)


def test_additions_add_up() -> None:
    usage = Usage(4)
    usage.add_at(torch.tensor([0, 1, 1]), torch.tensor([1.0, 0.5, 0.5]))
    usage.add_at(torch.tensor([3]), torch.tensor([2.0]))
    shares = [0.25, 0.25, 0.5]
    assert usage.kl_from_uniform == pytest.approx(math.log(4) + sum(share * math.log(share) for share in shares))
    assert usage.used_share == 0.75


SPREADS = {"kl", "gini", "top_percent_share"}


def test_names_and_ranges() -> None:
    values = {}
    for family, architecture in FAMILIES.items():
        model = build(architecture, seed=0).eval()
        model.start_statistics()
        with torch.no_grad():
            model(tokens_of(architecture, (2, 9)))
        values[family] = model.statistics()
    assert values["dense"] == {}
    assert set(values["memory_plus"]) == {f"memory_{name}" for name in {"used_share", *SPREADS}}
    assert 0 < values["memory_plus"]["memory_used_share"] <= 1
    assert 0 < values["memory_plus"]["memory_kl"] < math.log(81)
    for family, kind, first in (
        ("moe top-2", "moe", "max_load_share"),
        ("memory_plus, own tables", "memory", "used_share"),
        ("pkm", "memory", "used_share"),
        ("peer", "peer", "used_share"),
    ):
        expected = {f"{kind}_{name}_{layer}" for name in {first, *SPREADS} for layer in (0, 2)}
        assert set(values[family]) == expected
        for layer in (0, 2):
            assert 0 < values[family][f"{kind}_{first}_{layer}"] <= 1
            assert 0 < values[family][f"{kind}_gini_{layer}"] < 1
            assert 0 < values[family][f"{kind}_top_percent_share_{layer}"] < 1
    assert 0.2 <= values["moe top-2"]["moe_max_load_share_0"] <= 0.5


@pytest.mark.parametrize("family", ["pkm", "peer"])
def test_a_layers_own_slots_are_counted_apart(family: str) -> None:
    architecture = FAMILIES[family]
    part = architecture.memory or architecture.peer
    model = build(architecture, seed=0).eval()
    model.start_statistics()
    model(tokens_of(architecture, (1, 1)))
    values = model.statistics()
    kind = architecture.slot(0)
    # Heads may choose the same slot; with one token a layer reads no more than heads x knn, however many layers.
    for layer in (0, 2):
        assert part.knn <= round(values[f"{kind}_used_share_{layer}"] * part.num_slots) <= part.knn * part.num_heads
    assert values[f"{kind}_kl_0"] != values[f"{kind}_kl_2"]


def test_only_evaluation_between_start_and_end_is_counted() -> None:
    architecture = FAMILIES["memory_plus"]
    model, tokens = build(architecture, seed=0).eval(), tokens_of(architecture, (2, 9))
    model(tokens)
    assert model.statistics() == {}
    model.start_statistics()
    model.train()
    model(tokens)
    assert math.isnan(model.statistics()["memory_kl"])
    model.eval()
    model.start_statistics()
    model(tokens)
    once = model.statistics()
    model.start_statistics()
    for _ in range(2):
        model(tokens)
    assert model.statistics() == pytest.approx(once)


def test_the_table_is_counted_over_all_its_layers() -> None:
    architecture = FAMILIES["memory_plus"]
    model = build(architecture, seed=0)
    tokens = tokens_of(architecture, (1, 1))
    model.eval().start_statistics()
    model(tokens)
    used = model.statistics()["memory_used_share"] * 81
    reads = architecture.memory.num_heads * architecture.memory.knn
    assert reads < used <= 2 * reads
