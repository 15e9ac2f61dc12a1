"""Hash routing: whom a token id goes to is fixed by seed and layer, even over all sets, and never moved by training."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memscale.config.layers import NEEDED_BY_HASH, MoE
from memscale.errors import ConfigError
from memscale.models.hash_routing import draw_experts
from memscale.models.transformer import build
from tests.models.zoo import ZOO, hashed, tokens_of


def drawn(vocab_size: int, num_experts: int, per_token: int, seed: int = 0) -> torch.Tensor:
    return draw_experts(vocab_size, num_experts, per_token, torch.Generator().manual_seed(seed))


@given(st.integers(1, 50), st.integers(1, 9), st.data())
def test_the_experts_of_an_id_exist_and_differ(vocab_size: int, num_experts: int, data: st.DataObject) -> None:
    per_token = data.draw(st.integers(1, num_experts))
    for row in drawn(vocab_size, num_experts, per_token).tolist():
        assert len(set(row)) == per_token
        assert set(row) <= set(range(num_experts))


@pytest.mark.parametrize(("num_experts", "per_token"), [(4, 1), (4, 2), (4, 3), (3, 3)])
def test_every_choice_is_as_likely_as_any_other(num_experts: int, per_token: int) -> None:
    """Of 40,000 ids each ordered choice has its share, within five standard deviations."""
    ids, choices = 40_000, list(permutations(range(num_experts), per_token))
    seen = Counter(map(tuple, drawn(ids, num_experts, per_token).tolist()))
    share = 1 / len(choices)
    for choice in choices:
        assert abs(seen[choice] - ids * share) < 5 * (ids * share * (1 - share)) ** 0.5


def test_layers_and_seeds_draw_apart_and_one_seed_draws_the_same() -> None:
    a = ZOO["moe hash"]
    one, same, other = (build(a, seed=seed) for seed in (1, 1, 2))
    tables = [[model.blocks[layer].slot.experts for layer in (0, 2)] for model in (one, same, other)]
    assert all(torch.equal(left, right) for left, right in zip(tables[0], tables[1], strict=True))
    assert not torch.equal(tables[0][0], tables[2][0])
    assert not torch.equal(tables[0][0], tables[0][1])
    assert tables[0][0].shape == (a.vocab_size, 2)


def test_a_model_without_router_has_neither_its_weights_nor_losses() -> None:
    model = build(ZOO["moe hash"], seed=0).train()
    assert not any("router" in name for name, _ in model.named_parameters())
    assert model(tokens_of(model.architecture, (2, 9))).auxiliary_loss.item() == 0.0


def test_weights_that_are_loaded_bring_their_experts_along() -> None:
    a = ZOO["moe hash"]
    saved, loaded = build(a, seed=1).eval(), build(a, seed=2).eval()
    loaded.load_state_dict(saved.state_dict())
    tokens_BS = tokens_of(a, (2, 9))
    with torch.no_grad():
        assert torch.equal(loaded(tokens_BS).logits_BSV, saved(tokens_BS).logits_BSV)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scores": "sigmoid"}, r"scores is 'sigmoid', but hash routing has no router.*it needs scores 'softmax'"),
        ({"renormalise": True}, r"renormalise is true, but hash routing has no router.*needs renormalise false"),
        ({"capacity_factor": 2.0}, "capacity_factor is 2, but hash routing has no router"),
        ({"balance": "loss"}, "balance is 'loss', but hash routing has no router"),
        ({"balance": "bias"}, "balance is 'bias', but hash routing has no router"),
        ({"balance_weight": 0.1}, "balance_weight is 0.1, but hash routing has no router"),
        ({"bias_rate": 0.1}, "bias_rate is 0.1, but hash routing has no router"),
        ({"z_weight": 0.001}, r"z_weight is 0\.001, but hash routing has no router.*needs z_weight 0,"),
        ({"experts_per_token": 6}, "experts_per_token is 6, but there are only 5 experts"),
    ],
)
def test_what_needs_a_router_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        hashed(**changes)


def test_what_nothing_reads_has_its_default() -> None:
    defaults = {field.name: field.default for field in fields(MoE)}
    weighed = {"renormalise", "balance", "z_weight"}
    assert all(defaults[name] == needed for name, needed in NEEDED_BY_HASH.items() if name not in weighed)
