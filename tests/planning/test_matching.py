"""The solver against brute force over the whole lattice, and its refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memscale.config.architecture import Architecture
from memscale.config.sweep import Budget, DenseFamily, Matching, MemoryPlusFamily, MoEFamily, Scale
from memscale.errors import PlanError
from memscale.planning.accounting import count
from memscale.planning.matching import centred_layers, dense_architecture, match

FAMILIES = (DenseFamily(), MoEFamily(), MemoryPlusFamily(centred=2, stride=2, knn=8))


def small(d_model: int = 48, num_layers: int = 4, vocab: int = 512) -> Architecture:
    budget = Budget(flops=1e12, d_model=d_model, num_layers=num_layers, num_heads=d_model // 16)
    scale = Scale(name="laptop", budgets=(budget,), seeds=(0,), sequence_length=64, batch_tokens=64)
    return dense_architecture(budget, scale, vocab)


@pytest.mark.parametrize("d_model", [48, 64, 96])
def test_no_point_of_the_lattice_is_better(d_model: int) -> None:
    dense = small(d_model)
    flops = count(dense, 64).flops_per_token_forward
    matched = match(dense, FAMILIES, Matching(table_over_dense=4), 64)
    moe, memory = matched["moe"], matched["memory_plus"]

    def worst(one: Architecture, other: Architecture) -> float:
        first, second = count(one, 64), count(other, 64)
        return max(
            abs(first.flops_per_token_forward / flops - 1),
            abs(second.flops_per_token_forward / flops - 1),
            abs(first.params_total / second.params_total - 1),
        )

    found = worst(moe, memory)
    assert found <= 0.01
    table = 4 * count(dense, 64).params_total
    least = next(n for n in range(1, 2000) if n * n * dense.d_model >= table)
    assert memory.memory is not None
    assert moe.moe is not None
    memories = [
        replace(dense, family="memory_plus", ffn_hidden=width, memory=replace(memory.memory, num_keys=keys))
        for keys in range(least, int(least * 1.05) + 2)
        for width in range(1, dense.ffn_hidden * 2)
    ]
    memories = [one for one in memories if abs(count(one, 64).flops_per_token_forward / flops - 1) < found]
    moes = [
        replace(dense, family="moe", moe=replace(moe.moe, num_experts=experts, expert_hidden=width))
        for experts in range(moe.moe.experts_per_token, 90)
        for width in range(1, dense.ffn_hidden + 2)
    ]
    moes = [one for one in moes if abs(count(one, 64).flops_per_token_forward / flops - 1) < found]
    totals = {count(one, 64).params_total for one in memories}
    better = [
        (one, total)
        for one in moes
        for total in totals
        if abs(count(one, 64).params_total / total - 1) < found * (1 - 1e-9)
    ]
    assert not better


@pytest.mark.parametrize("d_model, num_layers, vocab", [(64, 4, 1024), (128, 6, 1024), (256, 8, 8192), (96, 5, 700)])
@pytest.mark.parametrize("experts_per_token", [1, 2])
def test_every_budget_is_matched_within_tolerance(
    d_model: int, num_layers: int, vocab: int, experts_per_token: int
) -> None:
    dense = small(d_model, num_layers, vocab)
    families = (DenseFamily(), MoEFamily(experts_per_token=experts_per_token), FAMILIES[2])
    matched = match(dense, families, Matching(), 64)
    counts = {name: count(one, 64) for name, one in matched.items()}
    for each in counts.values():
        assert each.flops_per_token_forward == pytest.approx(counts["dense"].flops_per_token_forward, rel=0.01)
    assert counts["moe"].params_total == pytest.approx(counts["memory_plus"].params_total, rel=0.01)
    assert counts["memory_plus"].params_table >= 8 * counts["dense"].params_total


def test_a_sparse_family_alone_reaches_the_size_asked_for() -> None:
    dense = small()
    total = count(dense, 64).params_total
    moe = match(dense, (DenseFamily(), MoEFamily()), Matching(), 64)["moe"]
    assert count(moe, 64).params_total == pytest.approx(9 * total, rel=0.05)
    memory = match(dense, (FAMILIES[2],), Matching(), 64)["memory_plus"]
    assert count(memory, 64).params_table >= 8 * total


def test_what_cannot_be_matched_is_refused_with_a_way_out() -> None:
    with pytest.raises(PlanError, match=r"no memory_plus model.*matching.table_over_dense"):
        match(small(32), (MemoryPlusFamily(centred=2, stride=2),), Matching(table_over_dense=64), 64)
    with pytest.raises(PlanError, match="do not fit into 4 layers"):
        match(small(), (MemoryPlusFamily(centred=3, stride=8),), Matching(), 64)
    with pytest.raises(PlanError, match=r"no MoE model|no pair"):
        match(small(16), (DenseFamily(), MoEFamily()), Matching(table_over_dense=4000), 64)
    with pytest.raises(PlanError, match=r"Raise matching\.tolerance"):
        match(small(), FAMILIES, Matching(tolerance=1e-6), 64)


def test_centred_layers_are_the_papers() -> None:
    assert centred_layers(24, 3, 8) == (4, 12, 20)
    assert centred_layers(4, 2, 2) == (1, 3)
    assert centred_layers(22, 1, 8) == (11,)


def test_the_dense_model_is_llamas() -> None:
    budget = Budget(flops=1e20, d_model=2048, num_layers=22, num_heads=16)
    scale = Scale(
        name="paper", budgets=(budget,), seeds=(0,), sequence_length=64, batch_tokens=64, ffn_multiple_of=256
    )  # fmt: skip
    assert dense_architecture(budget, scale, 32_000).ffn_hidden == 5632
