"""Solves the widths of the MoE and memory models so that each budget is a fair comparison.

At every budget the dense model fixes the FLOPs per token. The experts' number and width, and the memory's slots and
remaining dense width, move on whole numbers until all FLOPs agree with the dense model's and the total parameters of
the sparse models agree with each other. The point returned has the least worst mismatch of all points in the bounds:
the search keeps every candidate within a threshold, so that no better pair can hide outside.
Refuses when that point misses the tolerance, and says which width would have to move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from memscale.config.architecture import Architecture, Memory, MoE
from memscale.config.sweep import Budget, Family, Matching, MemoryPlusFamily, MoEFamily, Scale
from memscale.errors import PlanError
from memscale.planning.accounting import count

_TABLE_WINDOW = 1.05
"""The table's half keys may exceed the least number allowed by this factor."""
_FIRST_THRESHOLD = 1e-3


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A point of the lattice: an architecture, how far its FLOPs are off, and its total parameters."""

    architecture: Architecture
    flops_off: float
    params: int


def dense_architecture(budget: Budget, scale: Scale, vocab_size: int) -> Architecture:
    """The dense model that anchors `budget`; hidden width 8/3 d rounded up, as Llama's, where none is given."""
    multiple = scale.ffn_multiple_of
    hidden = budget.ffn_hidden or math.ceil(8 * budget.d_model / 3 / multiple) * multiple
    return Architecture(
        family="dense",
        d_model=budget.d_model,
        num_layers=budget.num_layers,
        num_heads=budget.num_heads,
        num_kv_heads=budget.num_kv_heads or budget.num_heads,
        head_width=budget.d_model // budget.num_heads,
        ffn_hidden=hidden,
        vocab_size=vocab_size,
    )


def match(
    dense: Architecture, families: Sequence[Family], matching: Matching, sequence_length: int
) -> dict[str, Architecture]:
    """Return one architecture per family name, matched to `dense`. Raises PlanError where none is within tolerance."""
    solved = {family.family: dense for family in families if family.family == "dense"}
    pools: dict[str, list[Candidate]] = {}
    table_params = matching.table_over_dense * count(dense, sequence_length).params_total
    for family in families:
        if isinstance(family, MemoryPlusFamily):
            pools[family.family] = _memory_candidates(dense, family, matching, table_params, sequence_length)
    wanted = [candidate.params for candidate in pools.get("memory_plus", [])]
    if not wanted:
        wanted = [round(count(dense, sequence_length).params_total + table_params)]
    for family in families:
        if isinstance(family, MoEFamily):
            pools[family.family] = _moe_candidates(dense, family, matching, wanted, sequence_length)
    if len(pools) == 2:
        moe, memory = _best_pair(pools["moe"], pools["memory_plus"], matching.tolerance)
        return {**solved, "moe": moe.architecture, "memory_plus": memory.architecture}
    for name, pool in pools.items():
        # Alone, a family is held to the FLOPs and to the size that the table asks for.
        target = min(wanted)
        best = min(pool, key=lambda one: (max(abs(one.flops_off), abs(one.params / target - 1)), one.params))
        solved[name] = best.architecture
    return solved


def _widths(exact: float, per_unit: float, flops: float, tolerance: float) -> range:
    """Whole widths >= 1 whose FLOPs lie within `tolerance`, and the two about the exact width in any case."""
    slack = max(1.0, tolerance * flops / per_unit)
    return range(max(1, math.ceil(exact - slack - 1e-9)), max(1, math.floor(exact + slack + 1e-9)) + 1)


def _memory_candidates(
    dense: Architecture, family: MemoryPlusFamily, matching: Matching, table_params: float, sequence_length: int
) -> list[Candidate]:
    value = family.value_width or dense.d_model
    layers = centred_layers(dense.num_layers, family.centred, family.stride)
    remaining = dense.num_layers - len(layers)
    least = max(math.ceil(math.sqrt(table_params / value)), family.knn)
    flops = count(dense, sequence_length).flops_per_token_forward
    pool: list[Candidate] = []
    for num_keys in range(least, math.ceil(least * _TABLE_WINDOW) + 1):
        memory = Memory(
            layers=layers,
            num_keys=num_keys,
            num_heads=family.num_heads,
            knn=family.knn,
            key_width=family.key_width or dense.d_model // 4 * 2,
            value_width=value,
            gated=family.gated,
            qk_norm=family.qk_norm,
        )
        base = replace(dense, family="memory_plus", ffn_hidden=1, memory=memory)
        widths = range(1, 2)
        if remaining:
            per_unit = 6.0 * dense.d_model * remaining
            exact = 1 - (count(base, sequence_length).flops_per_token_forward - flops) / per_unit
            widths = _widths(exact, per_unit, flops, matching.tolerance)
        pool += [_candidate(replace(base, ffn_hidden=width), flops, sequence_length) for width in widths]
    nearest = min(pool, key=lambda one: abs(one.flops_off))
    pool = [candidate for candidate in pool if abs(candidate.flops_off) <= matching.tolerance]
    if not pool:
        raise PlanError(
            f"no memory_plus model reaches the dense model's {flops:.4g} FLOPs per token at d_model {dense.d_model}, "
            f"{dense.num_layers} layers within {matching.tolerance:.2%}: with {least}^2 slots (table_over_dense "
            f"= {matching.table_over_dense:g}) the nearest, of dense width {nearest.architecture.ffn_hidden}, is "
            f"{nearest.flops_off:+.2%} off. {_way_out(nearest)}"
        )
    return pool


def _way_out(nearest: Candidate) -> str:
    if nearest.architecture.ffn_hidden > 1:
        return "Raise matching.tolerance"
    return (
        "Use fewer memory layers (families.memory_plus.centred), fewer heads or narrower keys, a smaller "
        "matching.table_over_dense, or a larger shape"
    )


def _moe_candidates(
    dense: Architecture, family: MoEFamily, matching: Matching, wanted: Sequence[int], sequence_length: int
) -> list[Candidate]:
    k, flops = family.experts_per_token, count(dense, sequence_length).flops_per_token_forward
    d, num_layers = dense.d_model, dense.num_layers
    fixed = count(dense, sequence_length).params_total - 3 * d * dense.ffn_hidden * num_layers
    per_unit = 6.0 * d * k * num_layers
    # FLOPs fix the width of an expert, so parameters fix their number; one to spare on either side.
    slack = 1 + 2 * matching.tolerance
    expert = 3 * d * max(1.0, dense.ffn_hidden / k) * num_layers
    low = max(k, math.floor((min(wanted) / slack - fixed) / (expert * slack)) - 1)
    pool: list[Candidate] = []
    nearest = math.inf
    for num_experts in range(low, 1_000_000):
        exact = dense.ffn_hidden / k - num_experts / (3 * k)
        fitting = []
        for width in _widths(exact, per_unit, flops, matching.tolerance):
            moe = MoE(
                layers=tuple(range(num_layers)),
                num_experts=num_experts,
                experts_per_token=k,
                expert_hidden=width,
                balance_weight=family.balance_weight,
                z_weight=family.z_weight,
            )
            fitting.append(_candidate(replace(dense, family="moe", moe=moe), flops, sequence_length))
        nearest = min([nearest, *(one.flops_off for one in fitting)], key=abs)
        pool += [one for one in fitting if abs(one.flops_off) <= matching.tolerance]
        if exact < 0.5 or min(one.params for one in fitting) > max(wanted) * slack:
            break
    if not pool:
        raise PlanError(
            f"no MoE model with {k} experts per token reaches {flops:.4g} FLOPs per token and {min(wanted):,} "
            f"parameters at d_model {d}, {num_layers} layers within {matching.tolerance:.2%}; the nearest is "
            f"{nearest:+.2%} off. Raise matching.tolerance, or use fewer experts per token, a smaller "
            "matching.table_over_dense, or a larger shape"
        )
    return pool


def _candidate(architecture: Architecture, flops: float, sequence_length: int) -> Candidate:
    counts = count(architecture, sequence_length)
    return Candidate(
        architecture=architecture,
        flops_off=counts.flops_per_token_forward / flops - 1,
        params=counts.params_total,
    )


def _best_pair(moe: list[Candidate], memory: list[Candidate], tolerance: float) -> tuple[Candidate, Candidate]:
    """The pair with the least max(|FLOPs off|, |FLOPs off|, |parameters off|); the smaller models on a tie."""
    threshold = min(_FIRST_THRESHOLD, tolerance)
    while True:
        found = _pairs_within(moe, memory, threshold)
        if found is not None:
            return found
        if threshold >= tolerance:
            break
        threshold = min(2 * threshold, tolerance)
    closest = min(abs(one.params / other.params - 1) for one in moe for other in memory)
    raise PlanError(
        f"no pair of MoE and memory_plus models agrees within {tolerance:.2%} in FLOPs per token and in total "
        f"parameters (d_model {moe[0].architecture.d_model}); their parameters come within {closest:.2%}. "
        "Raise matching.tolerance, or let another width move (families.moe.experts_per_token, scale.ffn_multiple_of)"
    )


def _pairs_within(
    moe: list[Candidate], memory: list[Candidate], threshold: float
) -> tuple[Candidate, Candidate] | None:
    """The best pair whose three mismatches all lie within `threshold`, or None."""
    left = [one for one in moe if abs(one.flops_off) <= threshold]
    right = sorted((one for one in memory if abs(one.flops_off) <= threshold), key=lambda one: one.params)
    params = np.array([one.params for one in right], dtype=np.float64)
    best: tuple[tuple[float, int, int], Candidate, Candidate] | None = None
    for one in left:
        start = int(np.searchsorted(params, one.params / (1 + threshold) * (1 - 1e-12)))
        for other in right[start:]:
            off = abs(one.params / other.params - 1)
            if off > threshold:
                if other.params > one.params:
                    break
                continue
            worst = max(abs(one.flops_off), abs(other.flops_off), off)
            key = (worst, other.params, one.params)
            if best is None or key < best[0]:
                best = (key, one, other)
    return (best[1], best[2]) if best is not None else None


def centred_layers(num_layers: int, centred: int, stride: int) -> tuple[int, ...]:
    """Indices of `centred` layers, `stride` apart, around the middle of the stack (24 layers, 3, 8: 4, 12, 20).

    Raises PlanError where they do not fit.
    """
    middle = num_layers / 2 - (centred - 1) * stride / 2
    layers = tuple(math.floor(middle + i * stride) for i in range(centred))
    if layers[0] < 0 or layers[-1] >= num_layers:
        raise PlanError(
            f"{centred} memory layers, {stride} apart, do not fit into {num_layers} layers (they would be "
            f"{list(layers)}). Lower families.memory_plus.centred or families.memory_plus.stride"
        )
    return layers
