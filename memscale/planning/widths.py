"""The open widths of a family, the defaults of its other widths, and the architecture at given widths.

A sparse family has one outer width, its size (`num_experts`, the square root of `num_slots`, `rows_per_head`, or a
token table's `row_width`); a looped one has none. At most one inner width (`ffn_hidden`, `expert_hidden`,
`value_width` or `key_width`) is open (`memscale.planning.free_widths`). A mixture's outer width is its last part's; the
size of its first part is solved before (`memscale.planning.mixtures`). Refuses sizes that cannot be matched exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from memscale.config.architecture import PARTS, Architecture
from memscale.config.checks import require
from memscale.config.family import (
    Family,
    LoopedFamily,
    MixtureFamily,
    MoEFamily,
    NGramFamily,
    PlacedFamily,
    ProductKeyFamily,
)
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.loop import Loop
from memscale.config.matching import Matching
from memscale.config.token_layers import NGram, TokenTable
from memscale.errors import ConfigError
from memscale.planning.accounting import count
from memscale.planning.free_widths import OUTER, free_widths, size_name
from memscale.planning.loops import loop_of, num_kv_heads
from memscale.planning.part_keywords import part_keywords

_PART_CLASSES: dict[str, Any] = {
    "moe": MoE, "memory": Memory, "peer": Peer, "ngram": NGram, "token_table": TokenTable, "loop": Loop,
}  # fmt: skip
"""Field of Architecture -> its class."""


@dataclass(frozen=True, kw_only=True)
class OpenWidth:
    """An open width: any multiple of `step` that is at least `least`. For num_slots these refer to the square root."""

    name: str
    step: int
    least: int


@dataclass(frozen=True, kw_only=True)
class Template:
    """A sparse or looped family beside one dense model, with its open widths."""

    series: str
    family: Family
    base: dict[str, Any]
    """Keywords of Architecture without its sparse parts or loop."""
    parts: dict[str, dict[str, Any]]
    """Keywords of each sparse part or of the loop, by its field of Architecture; the last one has the open size."""
    has_dense_layers: bool
    """Whether some layer has a dense feed-forward layer, so that `ffn_hidden` has an effect."""
    outer: OpenWidth | None
    """The open size; None where the family gives it."""
    outer_is_free: bool
    """Whether the solver may choose the size; otherwise it is given, or the smallest that `total_over_dense` allows."""
    inner: OpenWidth | None
    """The open inner width; None where it is given or takes its default."""

    @property
    def part(self) -> dict[str, Any]:
        """Keywords of the part whose size is open."""
        return self.parts[next(reversed(self.parts))]

    @property
    def expert_choice(self) -> bool:
        """Whether experts choose their tokens."""
        return self.parts.get("moe", {}).get("routing") == "expert_choice"

    @property
    def has_size(self) -> bool:
        """Whether the family has a size, open or given, that the sparse models of a budget can share."""
        return "loop" not in self.parts

    def build(self, outer: int, inner: int) -> Architecture:
        """Return the architecture at these widths; a width that is not open is ignored. Raises ConfigError."""
        base, parts = dict(self.base), {field: dict(part) for field, part in self.parts.items()}
        if self.outer is not None:
            name = "num_keys" if self.outer.name == "num_slots" else self.outer.name
            parts[next(reversed(parts))][name] = outer
        if self.inner is not None:
            owner = next((part for part in reversed(parts.values()) if self.inner.name in part), base)
            (base if self.inner.name == "ffn_hidden" else owner)[self.inner.name] = inner
        table = parts.get("token_table")
        if table is not None and table["use"] == "up":
            table["row_width"] = base["ffn_hidden"]
        try:
            built: dict[str, Any] = {field: _PART_CLASSES[field](**part) for field, part in parts.items()}
            return Architecture(**base, **built)
        except ConfigError as error:
            raise ConfigError(f"families.{self.family.name} ({self.series}): {error}") from error


def template(series: str, family: Family, dense: Architecture, matching: Matching) -> Template:
    """Return the open widths and the defaults of `family` beside `dense`. Raises ConfigError and PlanError."""
    if isinstance(family, LoopedFamily):
        return _looped(series, family, dense, matching)
    placed = part_families(family)
    parts = {field: part_keywords(part, dense) for field, part in placed.items()}
    _share_out_layers(placed, parts)
    taken = [layer for field, part in parts.items() if _takes_the_slot(field, part) for layer in part["layers"]]
    has_dense_layers = len(taken) < dense.num_layers or _uses_ffn_hidden(parts)
    base = _base(family, dense)
    base["ffn_hidden"] = (family.ffn_hidden if has_dense_layers else None) or dense.ffn_hidden
    free = free_widths(family, matching)
    inner = next((width for width in free if width not in OUTER), None)
    if not matching.equal_by_width or (inner == "ffn_hidden" and not has_dense_layers):
        inner = None  # no criterion determines it, or it has no effect
    sized = list(placed.values())[-1]
    outer = size_name(sized)
    given = outer is None or getattr(sized, outer) is not None
    return Template(
        series=series,
        family=family,
        base=base,
        parts=parts,
        has_dense_layers=has_dense_layers,
        outer=None if given or outer is None else _open_width(outer, sized, matching, _finest(parts, dense, matching)),
        outer_is_free=outer in free,
        inner=None if inner is None else _inner_width(inner, matching),
    )


def part_families(family: Family) -> dict[str, PlacedFamily]:
    """Return the families of a model's sparse parts, by their field of Architecture: its own, or a mixture's.

    Raises ConfigError where two parts of a mixture are of one kind.
    """
    found: dict[str, PlacedFamily] = {}
    for part in family.parts if isinstance(family, MixtureFamily) else (family,):
        assert isinstance(part, PlacedFamily)
        field = PARTS[part.family]
        assert field is not None
        if field in found:
            raise ConfigError(
                f"families.{family.name}.parts has '{found[field].name}' and '{part.name}', which are both a {field} "
                "part; a model has one of each kind"
            )
        found[field] = part
    return found


def _share_out_layers(placed: dict[str, PlacedFamily], parts: dict[str, dict[str, Any]]) -> None:
    """Leave to a part that stands in `all` layers those whose feed-forward layer no other part replaces."""
    for field, part in parts.items():
        if placed[field].layers == "all" and _takes_the_slot(field, part):
            others = {
                layer
                for name, other in parts.items()
                if name != field and _takes_the_slot(name, other)
                for layer in other["layers"]
            }
            part["layers"] = tuple(layer for layer in part["layers"] if layer not in others)


def _takes_the_slot(field: str, part: dict[str, Any]) -> bool:
    if field in ("memory", "peer"):
        return bool(part["place"] == "replace")
    return field == "moe" or part.get("use") == "up"


def _uses_ffn_hidden(parts: dict[str, dict[str, Any]]) -> bool:
    return parts.get("token_table", {}).get("use") == "up"


def _looped(series: str, family: LoopedFamily, dense: Architecture, matching: Matching) -> Template:
    """Return the template of a looped model: of its widths only the FFN's may be open, for it has no size."""
    loop = loop_of(family, dense.num_layers)
    is_open = "ffn_hidden" in free_widths(family, matching) and bool(matching.equal_by_width)
    base = {
        **_base(family, dense),
        "num_layers": loop.stored_layers,
        "ffn_hidden": family.ffn_hidden or dense.ffn_hidden,
    }
    base["num_kv_heads"] = family.num_kv_heads or num_kv_heads(loop, dense, matching)
    return Template(
        series=series,
        family=family,
        base=base,
        parts={"loop": dict(vars(loop))},
        has_dense_layers=True,
        outer=None,
        outer_is_free=False,
        inner=_inner_width("ffn_hidden", matching) if is_open else None,
    )


def _base(family: Family, dense: Architecture) -> dict[str, Any]:
    """Return the keywords of Architecture that `family` takes over from the dense model."""
    base = {name: value for name, value in vars(dense).items() if name not in _PART_CLASSES}
    return {**base, "family": family.family}


def _inner_width(name: str, matching: Matching) -> OpenWidth:
    step = _step(name, matching)
    if name == "key_width":
        step = math.lcm(step, 2)  # two halves
    return OpenWidth(name=name, step=step, least=step)


_SIZES = 8192
"""A table's rows are solved in steps of about one in so many, or of two rows, whichever is more."""


def _finest(parts: dict[str, dict[str, Any]], dense: Architecture, matching: Matching) -> int:
    """Return the step of rows of an n-gram table, a power of two: a finer one would change a model by less than .02 %.

    A table of the published size could have any of a million numbers of rows.
    """
    part = parts.get("ngram")
    if part is None or matching.total_over_dense is None:
        return 2
    reads = len(part["orders"]) * part["num_heads"] * len(part["layers"])
    total = matching.total_over_dense * count(dense, 1).params_total
    rows = float(total / (reads * part["row_width"]))
    return 1 << max(1, math.floor(math.log2(max(1.0, rows / _SIZES))))


def _open_width(name: str, family: Family, matching: Matching, finest: int) -> OpenWidth:
    """Return the open size of a family; `finest` is the step of an n-gram table's rows."""
    step = _step(name, matching)
    if isinstance(family, NGramFamily):
        require(
            family.sizes == "odd" and family.rows_multiple_of == 1,
            f"families.{family.name}: rows_per_head is null, but with sizes '{family.sizes}' and rows_multiple_of "
            f"{family.rows_multiple_of} tables cannot be matched exactly; give rows_per_head, or take sizes 'odd' and "
            "rows_multiple_of 1",
        )
        step = math.lcm(step, finest)  # even: the numbers of rows begin with the next odd one
    return OpenWidth(name=name, step=step, least=math.ceil(_least_size(family) / step) * step)


def _step(name: str, matching: Matching) -> int:
    return next((one.value for one in matching.multiple_of if one.width == name), 1)


def _least_size(family: Family) -> int:
    if isinstance(family, ProductKeyFamily):
        return family.knn
    if not isinstance(family, MoEFamily):
        return 1
    if family.routing == "expert_choice":
        return max(family.experts_per_token, math.ceil(family.capacity_factor))
    return family.experts_per_token
