"""Which widths are free, which defaults the others take, and how a plan without a solution is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from memscale.config.architecture import Architecture
from memscale.config.family import (
    DenseFamily,
    Family,
    MemoryFamily,
    MemoryPlusFamily,
    MoEFamily,
    PeerFamily,
    PKMFamily,
)
from memscale.config.matching import SPARSE_EQUAL, Free, Matching, MultipleOf, Throughput
from memscale.errors import ConfigError, PlanError
from memscale.planning.accounting import components, count
from memscale.planning.match_targets import Matched
from memscale.planning.matching import match
from memscale.planning.quantities import measure

DENSE = DenseFamily(name="dense")
MOE = MoEFamily(name="moe")
PLUS = MemoryPlusFamily(name="plus", centred=2, knn=16)
PKM = PKMFamily(name="pkm", knn=16)
MEMORY = MemoryFamily(name="memory", knn=16)
PEER = PeerFamily(name="peer", knn=16)
ALL = (DENSE, MOE, PLUS, PKM, MEMORY, PEER)
SEQUENCE = 128


def base(d_model: int = 64, num_layers: int = 4, vocab: int = 1024, ffn_multiple: int = 1) -> Architecture:
    heads = max(1, d_model // 16 if d_model < 256 else d_model // 64)
    return Architecture(
        family="dense",
        d_model=d_model,
        num_layers=num_layers,
        num_heads=heads,
        num_kv_heads=heads,
        head_width=d_model // heads,
        ffn_hidden=math.ceil(8 * d_model / 3 / ffn_multiple) * ffn_multiple,
        vocab_size=vocab,
    )


def solve(*families: Family, dense: Architecture | None = None, s: int = SEQUENCE, **terms: Any) -> dict[str, Matched]:
    return match(dense or base(), {one.name: one for one in families}, Matching(**terms), s)


def widths(name: str, *free: str) -> Free:
    return Free(name=name, widths=free)


def total(one: Matched, s: int = SEQUENCE) -> int:
    return count(one.architecture, s).params_total


def worst(found: dict[str, Matched], s: int) -> float:
    totals = [total(one, s) for one in found.values() if one.architecture.family != "dense"]
    return max(max(totals) / min(totals) - 1, *(abs(own) for one in found.values() for _, own in one.mismatch))


@pytest.mark.parametrize(
    "d_model, num_layers, vocab, s, ffn_multiple, limit",
    [
        (48, 4, 1024, 128, 1, 0.01),
        (64, 4, 1024, 128, 1, 0.01),
        (96, 4, 1024, 128, 1, 0.01),
        (256, 8, 1024, 1024, 64, 0.005),
        (512, 12, 8192, 1024, 64, 0.005),
        (768, 12, 32_000, 4096, 256, 0.005),
        (1024, 24, 32_000, 4096, 256, 0.005),
        (2048, 22, 32_000, 4096, 256, 0.005),
    ],
)
def test_all_families_meet_at_every_scale(
    d_model: int, num_layers: int, vocab: int, s: int, ffn_multiple: int, limit: float
) -> None:
    dense = base(d_model, num_layers, vocab, ffn_multiple)
    found = solve(*ALL, dense=dense, s=s)
    assert worst(found, s) <= limit
    assert found["dense"].architecture == dense
    least = min(total(one, s) for name, one in found.items() if name != "dense")
    assert 9 <= least / count(dense, s).params_total <= 9.9
    for name, one in found.items():
        ((criterion, mismatch),) = one.mismatch
        assert criterion == "flops_per_token"
        flops = measure(criterion, one.architecture, s) / measure(criterion, dense, s)
        assert mismatch == pytest.approx(flops - 1, abs=1e-15), name


@pytest.mark.parametrize("criterion", ["flops_per_token", "active_params", "decode_bytes", "seconds_per_token"])
@pytest.mark.parametrize("shared", [name for name in SPARSE_EQUAL if name not in ("table_params", "training_memory")])
def test_any_quantity_can_be_matched_and_shared(criterion: str, shared: str) -> None:
    throughput = tuple(Throughput(name=one.name, flops_per_second=1e12) for one in ALL)
    found = solve(*ALL, equal=(criterion, "tokens"), sparse_equal=shared, tolerance=0.02, throughput=throughput)
    values = [measure(shared, one.architecture, SEQUENCE) for name, one in found.items() if name != "dense"]
    assert max(values) / min(values) - 1 <= 0.02
    assert all(abs(mismatch) <= 0.02 for one in found.values() for _, mismatch in one.mismatch)


def test_tables_and_training_memory_can_be_shared() -> None:
    for shared in ("table_params", "training_memory"):
        found = solve(PLUS, replace(PLUS, name="narrow", key_width=16), sparse_equal=shared)
        values = [measure(shared, one.architecture, SEQUENCE) for one in found.values()]
        assert max(values) / min(values) - 1 <= 0.01
    with pytest.raises(ConfigError, match="moe has no table"):
        solve(MOE, PLUS, sparse_equal="table_params")


def test_training_memory_can_be_matched() -> None:
    smaller = replace(PLUS, num_slots=16**2)
    (one,) = solve(smaller, equal=("training_memory", "tokens"), sparse_equal=None).values()
    memory = measure("training_memory", one.architecture, SEQUENCE)
    assert memory == pytest.approx(measure("training_memory", base(), SEQUENCE), rel=0.01)
    assert one.architecture.ffn_hidden < base().ffn_hidden


def test_several_quantities_are_matched_at_once() -> None:
    found = solve(*ALL, equal=("flops_per_token", "active_params", "decode_bytes", "tokens"), tolerance=0.03)
    for one in found.values():
        assert [name for name, _ in one.mismatch] == ["flops_per_token", "active_params", "decode_bytes"]
        assert all(abs(mismatch) <= 0.03 for _, mismatch in one.mismatch)


def test_a_slower_family_gets_a_smaller_model_by_time() -> None:
    speeds = (Throughput(name="dense", flops_per_second=2e12), Throughput(name="moe", flops_per_second=1.6e12))
    terms = {"equal": ("seconds_per_token", "tokens"), "throughput": speeds, "sparse_equal": None}
    found = solve(DENSE, replace(MOE, num_experts=4), total_over_dense=None, **terms)
    flops = [measure("flops_per_token", one.architecture, SEQUENCE) for one in found.values()]
    assert flops[1] == pytest.approx(0.8 * flops[0], rel=0.01)
    with pytest.raises(ConfigError, match=r"matching\.throughput\.plus.*given are: dense, moe"):
        solve(DENSE, PLUS, **terms)
    with pytest.raises(ConfigError, match=r"matching\.throughput\.dense"):
        solve(MOE, equal=("seconds_per_token", "tokens"), throughput=speeds[1:])


def test_the_issues_terms_move_what_they_name() -> None:
    free = (widths("moe", "expert_hidden"), widths("plus", "ffn_hidden", "num_slots"))
    moe, plus = solve(replace(MOE, num_experts=32), PLUS, free=free).values()
    assert moe.architecture.moe is not None
    assert moe.architecture.moe.num_experts == 32
    # The size is the experts', though total_over_dense asks for more.
    assert total(plus) == pytest.approx(total(moe), rel=0.01)
    assert total(moe) < 7 * count(base(), SEQUENCE).params_total


@pytest.mark.parametrize("width", ["ffn_hidden", "key_width", "value_width"])
def test_each_inner_width_of_a_memory_can_be_the_free_one(width: str) -> None:
    (one,) = solve(PLUS, free=(widths("plus", width, "num_slots"),), total_over_dense=3).values()
    memory = one.architecture.memory
    assert memory is not None
    defaults = {"ffn_hidden": base().ffn_hidden, "key_width": 32, "value_width": 64}
    found = {
        "ffn_hidden": one.architecture.ffn_hidden,
        "key_width": memory.key_width,
        "value_width": memory.value_width,
    }
    assert {name for name in found if found[name] != defaults[name]} == {width}
    assert memory.key_width % 2 == 0


def test_multiples_are_kept() -> None:
    multiples = (
        MultipleOf(width="expert_hidden", value=4),
        MultipleOf(width="num_slots", value=8),
        MultipleOf(width="ffn_hidden", value=4),
    )
    moe, plus = solve(MOE, PLUS, dense=base(256, 8), multiple_of=multiples).values()
    assert moe.architecture.moe is not None
    assert plus.architecture.memory is not None
    assert moe.architecture.moe.expert_hidden % 4 == 0
    assert plus.architecture.ffn_hidden % 4 == 0
    assert plus.architecture.memory.num_keys % 8 == 0


def test_without_terms_per_token_widths_take_their_defaults() -> None:
    slots = (64**2, 128**2)
    families = [replace(PLUS, num_slots=n) for n in slots]
    labels = {f"plus num_slots={n}": one for n, one in zip(slots, families, strict=True)}
    terms = Matching(equal=("tokens",), sparse_equal=None, total_over_dense=None)
    found = match(base(), {"dense": DENSE, "moe": replace(MOE, num_experts=4), **labels}, terms, SEQUENCE)
    assert list(found) == ["dense", "moe", *labels]
    assert found["moe"].architecture.moe is not None
    assert found["moe"].architecture.moe.expert_hidden == base().ffn_hidden
    for label, n in zip(labels, slots, strict=True):
        one = found[label].architecture
        assert one.memory is not None
        assert (one.memory.num_slots, one.memory.key_width, one.memory.value_width) == (n, 32, 64)
        assert one.ffn_hidden == base().ffn_hidden
        assert found[label].mismatch == ()
    with pytest.raises(ConfigError, match=r"matching\.total_over_dense, or families\.plus\.num_slots"):
        match(base(), {"plus": PLUS}, terms, SEQUENCE)


@pytest.mark.parametrize("family, width", [(MOE, "expert_hidden"), (PLUS, "ffn_hidden"), (PEER, "ffn_hidden")])
def test_alone_a_family_takes_the_least_size_asked_for(family: Family, width: str) -> None:
    (one,) = solve(family, free=(widths(family.name, width),), sparse_equal=None, total_over_dense=5).values()
    architecture = one.architecture
    least = 5 * count(base(), SEQUENCE).params_total
    assert total(one) >= least
    if architecture.moe is not None:
        fewer = replace(architecture, moe=replace(architecture.moe, num_experts=architecture.moe.num_experts - 1))
    else:
        part = architecture.memory or architecture.peer
        assert part is not None
        smaller: Any = {"memory" if architecture.memory else "peer": replace(part, num_keys=part.num_keys - 1)}
        fewer = replace(architecture, **smaller)
    # Whatever inner width one fewer would get, it is at most a few wider.
    assert count(fewer, SEQUENCE).params_total < least


def test_families_become_the_parts_they_are_named_after() -> None:
    found = {name: one.architecture for name, one in solve(*ALL).items()}
    pkm, memory, plus = found["pkm"].memory, found["memory"].memory, found["plus"].memory
    assert pkm is not None
    assert memory is not None
    assert plus is not None
    assert found["peer"].peer is not None
    assert (pkm.shared_table, pkm.gated, pkm.query_norm, pkm.layers) == (False, False, "batch", (2,))
    assert (memory.shared_table, memory.gated, memory.query_norm, memory.value_width) == (True, False, "none", 64)
    assert (plus.shared_table, plus.gated, plus.qk_norm, plus.layers) == (True, True, True, (1, 3))
    assert found["peer"].peer.query_norm == "batch"
    choice = MoEFamily(name="moe", routing="expert_choice", num_experts=8)
    (expert_choice,) = solve(choice).values()
    for one, routed in ((found["moe"].moe, "token_choice"), (expert_choice.architecture.moe, "expert_choice")):
        assert one is not None
        assert one.routing == routed
        assert (one.renormalise, one.balance) == ((True, "loss") if routed == "token_choice" else (False, "none"))
    (single,) = solve(replace(MOE, experts_per_token=1)).values()
    assert single.architecture.moe is not None
    assert not single.architecture.moe.renormalise


def test_hash_routing_needs_nothing_else_and_weighs_nothing() -> None:
    found = solve(MoEFamily(name="hashed", routing="hash"), MOE)
    hashed, scored = (found[name].architecture for name in ("hashed", "moe"))
    assert hashed.moe is not None
    assert (hashed.moe.renormalise, hashed.moe.balance, hashed.moe.z_weight) == (False, "none", 0.0)
    assert worst(found, SEQUENCE) <= 0.01
    assert "router" not in {part.name for part in components(hashed, SEQUENCE)}
    assert scored.moe is not None
    assert hashed.moe.expert_hidden > scored.moe.expert_hidden  # what the router costs


def test_a_size_between_two_numbers_of_unlimited_experts_is_refused_with_both() -> None:
    one = MoEFamily(name="hashed", routing="hash", experts_per_token=1)
    with pytest.raises(
        PlanError, match=r"asked for are .* total_params, but num_experts 4, .* and num_experts 5, .*total_over_dense"
    ):
        solve(one, total_over_dense=2.3)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"scores": "sigmoid"}, r"families\.hashed .*scores is 'sigmoid', but hash routing has no router"),
        ({"balance": "loss"}, "balance is 'loss', but hash routing has no router"),
        ({"renormalise": True}, "renormalise is true, but hash routing has no router"),
        ({"capacity_factor": 2.0}, "capacity_factor is 2, but hash routing has no router"),
        ({"z_weight": 0.01}, r"z_weight is 0\.01, but hash routing has no router"),
    ],
)
def test_what_hash_routing_cannot_have_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        solve(MoEFamily(name="hashed", routing="hash", **changes), MOE)


def test_a_dense_family_is_the_dense_model_or_refused() -> None:
    assert solve(DENSE)["dense"] == Matched(architecture=base(), mismatch=(("flops_per_token", 0.0),))
    wide = solve(replace(DENSE, ffn_hidden=400), equal=("tokens",))["dense"]
    assert wide.architecture == replace(base(), ffn_hidden=400)
    with pytest.raises(PlanError, match=r"ffn_hidden 400 is \+[\d.]+ % off .*Leave families\.dense\.ffn_hidden out"):
        solve(replace(DENSE, ffn_hidden=400))


def test_a_width_that_the_family_gives_stays_where_it_is() -> None:
    free = (widths("moe", "num_experts", "expert_hidden"),)
    solved = solve(replace(MOE, num_experts=8), free=free, sparse_equal=None)["moe"].architecture.moe
    alone = solve(replace(MOE, num_experts=8), free=(widths("moe", "expert_hidden"),), sparse_equal=None)["moe"]
    assert solved is not None
    assert solved.num_experts == 8
    assert solved == alone.architecture.moe


@pytest.mark.parametrize(
    "family, free, told",
    [
        (MOE, ("num_slots",), r"names num_slots, but the family 'moe' has .*num_experts"),
        (replace(PLUS, gated=False), ("value_width",), "without a gated output"),
        (PLUS, ("ffn_hidden", "key_width"), "ffn_hidden and key_width; one of them at most"),
        (DENSE, ("ffn_hidden",), "nothing of it is free"),
    ],
)
def test_contradictory_terms_are_refused(family: Family, free: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        solve(family, free=(widths(family.name, *free),))


@pytest.mark.parametrize(
    "families, terms, told",
    [
        (
            (replace(MOE, num_experts=16),),
            {"multiple_of": (MultipleOf(width="expert_hidden", value=16),)},
            r"would have to be 82\.8; the nearest multiples of 16 allowed are 80 \(-1\.47 %\) and 96 \(\+6\.85 %\)",
        ),
        (
            (PLUS,),
            {"total_over_dense": 900},
            r"largest that the dense model leaves room for, num_slots \d+\^2.*fewer memory",
        ),
        (
            (replace(PLUS, num_slots=600**2),),
            {},
            r"ffn_hidden would have to be -\d+\.\d, and cannot go below 1: use fewer",
        ),
        ((replace(PLUS, layers="all"),), {"total_over_dense": 2}, "Name value_width or key_width in"),
        (
            (replace(PLUS, layers="all"),),
            {},
            r"asked for are .*fewer memory layers \(families\.plus\.centred or layers\)",
        ),
        (
            (replace(MOE, expert_hidden=171),),
            {"total_over_dense": 3},
            r"expert_hidden is 171 and would have to be 8\d\.\d",
        ),
        (
            (replace(PLUS, num_slots=64**2), replace(PLUS, name="large", num_slots=128**2)),
            {},
            r"agree within 1 % in total_params.*1\d\d % off: plus \d.*The sizes of plus, large are given",
        ),
        ((MOE,), {"equal": ("total_params", "tokens")}, "set total_over_dense to null"),
        ((replace(PLUS, num_slots=8**2),), {"equal": ("tokens",)}, r"families\.plus.*only 8 keys"),
    ],
)
def test_what_cannot_be_matched_is_refused_with_what_would_have_to_move(
    families: tuple[Family, ...], terms: dict[str, Any], told: str
) -> None:
    with pytest.raises((PlanError, ConfigError), match=told):
        solve(*families, **terms)


def test_rounded_capacity_is_seen_and_its_gaps_are_named() -> None:
    one = MoEFamily(name="moe", routing="expert_choice", experts_per_token=1)
    with pytest.raises(
        PlanError, match=r"asked for are .* num_experts 2\d, expert_hidden \d+ has .* and num_experts 2\d"
    ):
        solve(one)
    found = solve(one, PLUS, dense=base(256, 8), s=1024)
    assert worst(found, 1024) <= 0.01


def test_what_was_solved_is_kept_but_not_what_a_caller_did_to_it() -> None:
    solve(*ALL).pop("moe")
    assert list(solve(*ALL)) == [one.name for one in ALL]


def test_beside_every_layer_the_dense_width_is_still_solved() -> None:
    beside = MemoryPlusFamily(name="plus", layers="all", num_heads=1, knn=4, key_width=8, place="beside")
    found = solve(beside, total_over_dense=3, tolerance=0.02)["plus"]
    assert found.architecture.num_dense_layers == 4
    assert found.architecture.ffn_hidden < base().ffn_hidden
    assert abs(dict(found.mismatch)["flops_per_token"]) <= 0.02
    with pytest.raises(PlanError, match="No dense layer is left whose ffn_hidden could move"):
        solve(replace(beside, place="replace", num_slots=10_000), tolerance=1e-6)


@pytest.mark.parametrize("family", [MEMORY, PKM])
def test_rows_narrower_than_the_model_are_given_or_solved_where_they_are_projected(family: MemoryFamily) -> None:
    half = replace(family, projection=True, value_width=32)
    assert solve(half, total_over_dense=3)[family.name].architecture.memory.value_width == 32
    free = (widths(family.name, "num_slots", "value_width"),)
    solved = solve(replace(half, value_width=None), total_over_dense=3, free=free)
    part = solved[family.name].architecture.memory
    assert part.value_width != 64
    assert part.projection
    with pytest.raises(ConfigError, match=r"value_width is 32; without a gated output or a projection it must be d_m"):
        solve(replace(half, projection=False))
    with pytest.raises(ConfigError, match="a gated output is projected by its W2 already"):
        solve(replace(PLUS, projection=True))
