"""The open widths of a family, the defaults of its other widths, and the architecture at given widths.

A family has one outer width, its size (`num_experts`, or the square root of `num_slots`), and at most one inner width
(`ffn_hidden`, `expert_hidden`, `value_width` or `key_width`) may be open, since two would have many solutions. Refuses
free widths that the family does not have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from memscale.config.architecture import PARTS, Architecture
from memscale.config.checks import require
from memscale.config.family import (
    DenseFamily,
    Family,
    MemoryPlusFamily,
    MemoryTableFamily,
    MoEFamily,
    ProductKeyFamily,
)
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.matching import WIDTHS, Matching
from memscale.errors import ConfigError, nearest
from memscale.planning.shapes import placed_layers

OUTER = ("num_experts", "num_slots")
_FAMILY_CLASSES = (MoEFamily, ProductKeyFamily)


@dataclass(frozen=True, kw_only=True)
class OpenWidth:
    """An open width: any multiple of `step` that is at least `least`. For num_slots these refer to the square root."""

    name: str
    step: int
    least: int


@dataclass(frozen=True, kw_only=True)
class Template:
    """A sparse family beside one dense model, with its open widths."""

    series: str
    family: Family
    base: dict[str, Any]
    """Keywords of Architecture without its sparse part."""
    part: dict[str, Any]
    """Keywords of the sparse part."""
    layers: int
    """Number of layers with the sparse part."""
    outer: OpenWidth | None
    """The open size; None where the family gives it."""
    outer_is_free: bool
    """Whether the solver may choose the size; otherwise it is given, or the smallest that `total_over_dense` allows."""
    inner: OpenWidth | None
    """The open inner width; None where it is given or takes its default."""

    def build(self, outer: int, inner: int) -> Architecture:
        """Return the architecture at these widths; a width that is not open is ignored. Raises ConfigError."""
        base, part = dict(self.base), dict(self.part)
        if self.outer is not None:
            part["num_keys" if self.outer.name == "num_slots" else "num_experts"] = outer
        if self.inner is not None:
            (base if self.inner.name == "ffn_hidden" else part)[self.inner.name] = inner
        field = PARTS[self.family.family]
        assert field is not None
        try:
            return Architecture(**base, **{field: {"moe": MoE, "memory": Memory, "peer": Peer}[field](**part)})
        except ConfigError as error:
            raise ConfigError(f"families.{self.family.name} ({self.series}): {error}") from error


def template(series: str, family: Family, dense: Architecture, matching: Matching) -> Template:
    """Return the open widths and the defaults of `family` beside `dense`. Raises ConfigError and PlanError."""
    assert isinstance(family, _FAMILY_CLASSES)
    layers = placed_layers(family, dense.num_layers)
    has_dense_layers = len(layers) < dense.num_layers or stands_beside(family)
    part = _moe(family, dense) if isinstance(family, MoEFamily) else _product_keys(family, dense)
    base: dict[str, Any] = dict(vars(dense))
    for field in ("moe", "memory", "peer"):
        del base[field]
    base["family"] = family.family
    base["ffn_hidden"] = (family.ffn_hidden if has_dense_layers else None) or dense.ffn_hidden
    free = free_widths(family, matching)
    inner = next((width for width in free if width not in OUTER), None)
    if not matching.equal_per_token or (inner == "ffn_hidden" and not has_dense_layers):
        inner = None  # no criterion determines it, or it has no effect
    outer = "num_experts" if isinstance(family, MoEFamily) else "num_slots"
    given = getattr(family, outer) is not None
    return Template(
        series=series,
        family=family,
        base=base,
        part={"layers": layers, **part},
        layers=len(layers),
        outer=None if given else _open_width(outer, matching, _least_size(family)),
        outer_is_free=outer in free,
        inner=None if inner is None else _open_width(inner, matching, 1),
    )


def free_widths(family: Family, matching: Matching) -> tuple[str, ...]:
    """Return the widths of `family` that are free and that it does not give. Raises ConfigError."""
    owned = [width for width in WIDTHS if hasattr(family, width)]
    given = [width for width in owned if getattr(family, width) is not None]
    named = next((free.widths for free in matching.free if free.name == family.name), None)
    if named is None:
        return tuple(width for width in family.free_by_default if width not in given)
    where = f"matching.free.{family.name}"
    require(
        not isinstance(family, DenseFamily),
        f"{where}: the dense model is what the others are matched to, so that nothing of it is free; leave it out",
    )
    for width in named:
        if width not in owned:
            raise ConfigError(
                f"{where} names {width}, but the family '{family.family}' has {', '.join(owned)}."
                f"{nearest(width, owned)}"
            )
        require(
            width != "value_width" or _is_projected(family),
            f"{where} names value_width, but without a gated output or a projection a value is as wide as the model "
            "(d_model)",
        )
    moved = tuple(width for width in dict.fromkeys(named) if width not in given)
    inner = [width for width in moved if width not in OUTER]
    require(
        len(inner) <= 1,
        f"{where} names {' and '.join(inner)}; one of them at most can be solved, for several would meet the terms in "
        f"many ways. Give all but one under families.{family.name}",
    )
    return moved


def _is_projected(family: Family) -> bool:
    gated = isinstance(family, MemoryPlusFamily) and family.gated
    return gated or (isinstance(family, MemoryTableFamily) and family.projection)


def stands_beside(family: Family) -> bool:
    """Whether the family's sparse layers leave every block its dense feed-forward layer."""
    return isinstance(family, ProductKeyFamily) and family.place == "beside"


def _open_width(name: str, matching: Matching, least: int) -> OpenWidth:
    step = next((one.value for one in matching.multiple_of if one.width == name), 1)
    if name == "key_width":
        step = math.lcm(step, 2)  # two halves
    return OpenWidth(name=name, step=step, least=math.ceil(least / step) * step)


def _least_size(family: MoEFamily | ProductKeyFamily) -> int:
    if not isinstance(family, MoEFamily):
        return family.knn
    if family.routing == "expert_choice":
        return max(family.experts_per_token, math.ceil(family.capacity_factor))
    return family.experts_per_token


def _moe(family: MoEFamily, dense: Architecture) -> dict[str, Any]:
    token_choice = family.routing == "token_choice"
    renormalise = family.renormalise
    return {
        "num_experts": family.num_experts,
        "experts_per_token": family.experts_per_token,
        "expert_hidden": family.expert_hidden or dense.ffn_hidden,
        "shared_experts": family.shared_experts,
        "routing": family.routing,
        "scores": family.scores,
        "renormalise": family.experts_per_token > 1 and token_choice if renormalise is None else renormalise,
        "capacity_factor": family.capacity_factor,
        "balance": family.balance or ("loss" if token_choice else "none"),
        "balance_weight": family.balance_weight,
        "bias_rate": family.bias_rate,
        "z_weight": family.z_weight,
    }


def _product_keys(family: ProductKeyFamily, dense: Architecture) -> dict[str, Any]:
    part: dict[str, Any] = {
        "num_keys": None if family.num_slots is None else math.isqrt(family.num_slots),
        "num_heads": family.num_heads,
        "knn": family.knn,
        "key_width": family.key_width or max(2, dense.d_model // 4 * 2),
        "qk_norm": family.qk_norm,
        "query_norm": family.query_norm,
        "core_rank": family.core_rank,
        "core_penalty": family.core_penalty,
        "query_conv": family.query_conv,
        "weights": family.weights,
        "place": family.place,
        "skip": family.skip,
    }
    if not isinstance(family, MemoryTableFamily):
        return part
    part["value_width"] = getattr(family, "value_width", None) or dense.d_model
    part["gated"] = isinstance(family, MemoryPlusFamily) and family.gated
    part["projection"] = family.projection
    part["expansion"] = family.expansion
    part["shared_table"] = family.family != "pkm"
    return part
