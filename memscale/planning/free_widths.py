"""Which widths of a family the solver may choose: its size, and at most one inner width, since two have many solutions.

A mixture's are the size of its last part, an inner width of that part or of its experts, and the dense layers'. Refuses
free widths that the family does not have.
"""

from __future__ import annotations

from memscale.config.checks import require
from memscale.config.family import (
    DenseFamily,
    Family,
    MemoryPlusFamily,
    MemoryTableFamily,
    MixtureFamily,
    MoEFamily,
    NGramFamily,
    ProductKeyFamily,
    TokenTableFamily,
)
from memscale.config.matching import WIDTHS, Matching
from memscale.errors import ConfigError, nearest

OUTER = ("num_experts", "num_slots", "rows_per_head", "row_width")
"""Widths that are sizes."""


def size_name(family: Family) -> str | None:
    """Return the width that is a family's size; None where it follows from other widths."""
    if isinstance(family, MoEFamily):
        return "num_experts"
    if isinstance(family, ProductKeyFamily):
        return "num_slots"
    if isinstance(family, NGramFamily):
        return "rows_per_head"
    return "row_width" if isinstance(family, TokenTableFamily) and family.use == "gated" else None


def free_widths(family: Family, matching: Matching) -> tuple[str, ...]:
    """Return the widths of `family` that are free and that it does not give. Raises ConfigError."""
    owned = {width: owner for owner in reversed(_owners(family)) for width in WIDTHS if hasattr(owner, width)}
    owned = {width: owned[width] for width in WIDTHS if width in owned}
    given = [width for width, owner in owned.items() if getattr(owner, width) is not None]
    named = next((free.widths for free in matching.free if free.name == family.name), None)
    if named is None:
        return tuple(width for width in _free_by_default(family) if width not in given)
    where = f"matching.free.{family.name}"
    require(
        not isinstance(family, DenseFamily),
        f"{where}: the dense model is what the others are matched to, so that nothing of it is free; leave it out",
    )
    for width in named:
        if width not in owned:
            raise ConfigError(
                f"{where} names {width}, but the family '{family.family}' has {', '.join(owned)}."
                f"{nearest(width, list(owned))}"
            )
        owner = owned[width]
        require(
            width != "value_width" or _is_projected(owner),
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


def _free_by_default(family: Family) -> tuple[str, ...]:
    """Return a family's own; of a mixture the last part's size and one inner width: that of experts, if it has any."""
    if not isinstance(family, MixtureFamily):
        return family.free_by_default
    size = size_name(family.parts[-1])
    experts = any(isinstance(part, MoEFamily) for part in family.parts)
    return (*([size] if size is not None else []), "expert_hidden" if experts else "ffn_hidden")


def _owners(family: Family) -> list[Family]:
    """The families whose widths a family's solver may move: a mixture's last part, its experts and itself."""
    if not isinstance(family, MixtureFamily):
        return [family]
    return [family, *(part for part in family.parts if part is family.parts[-1] or isinstance(part, MoEFamily))]
