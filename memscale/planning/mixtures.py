"""The size of a mixture's first part, from its share of the sparse parameters.

1. Sparse parameters are those that are stored and that a token does not use: experts it is not sent to, rows it does
   not read (the allocation of Cheng et al. 2026).
2. The first part's grow with its size, so that the size whose share is nearest is found by bisection. At each size the
   inner width is the one that meets `matching.equal` best.
3. The last part's size is then solved as that of any family (`memscale.planning.matching`); it takes up what the whole
   numbers of the first leave.
4. This is done twice: first of the least total that was asked for and with the last part at its smallest, then of the
   total and with the last part that came out.

Refuses a share without `total_over_dense`, or larger than there is room for, and parts without a size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from memscale.config.architecture import PARTS, Architecture
from memscale.config.family import Family, MixtureFamily
from memscale.errors import ConfigError, PlanError
from memscale.planning.accounting import count, unused_params
from memscale.planning.candidates import Bound, Candidates
from memscale.planning.cost_model import CostModel
from memscale.planning.free_widths import size_name
from memscale.planning.outer_widths import outer_widths


def with_sizes(
    family: MixtureFamily,
    *,
    least_total: float | None,
    before: Architecture | None,
    sequence_length: int,
    rotated: Callable[[MixtureFamily], CostModel],
    dense: list[float],
    tolerance: float,
) -> MixtureFamily:
    """Return `family` with the size of every part but the last.

    Args:
        family: The mixture.
        least_total: Total parameters that the matched model is to have at least; None where `total_over_dense` is null.
        before: The model as it was matched before, if it was.
        sequence_length: Tokens per training sequence.
        rotated: Gives the costs of a mixture of the same parts, whose last part is the open one.
        dense: The dense model's value of each criterion.
        tolerance: Of the matching.

    Raises:
        ConfigError: A part has no size, or there is a share and no total to share.
        PlanError: The first part cannot have so large a share.

    """
    first, *between, last = family.parts
    for part in between if family.share is not None else (first, *between):
        name = size_name(part)
        if name is not None and getattr(part, name) is None:
            advice = f"give families.{family.name}.share, or " if part is first else "give "
            raise ConfigError(
                f"families.{family.name}.parts.{part.name} has no size; {advice}{name} there (only "
                "the last part's size is solved)"
            )
    if family.share is None:
        return family
    name = size_name(first)
    if name is None or getattr(first, name) is not None:
        raise ConfigError(
            f"families.{family.name} has both a share ({family.share:g}) and a size of its first part, {first.name}; "
            "leave one of them out"
        )
    if least_total is None:
        raise ConfigError(
            f"families.{family.name}.share is {family.share:g} of the sparse parameters, but nothing says how many "
            f"there are: set matching.total_over_dense, or give parts.{first.name}.{name} in place of the share"
        )
    total = least_total if before is None else count(before, sequence_length).params_total
    model = rotated(replace(family, parts=(*between, _closed(last, before), first), share=None))
    size = _size_of_share(model, dense, family, total, sequence_length, tolerance)
    return replace(family, parts=(_with_size(first, name, size), *between, last), share=None)


def _closed(part: Family, before: Architecture | None) -> Family:
    """Return the last part at the size that it had before, or at a small one, where the matching chooses it."""
    name = size_name(part)
    if name is None or getattr(part, name) is not None:
        return part
    if before is None:
        return _with_size(part, name, max(getattr(part, "knn", 1), getattr(part, "experts_per_token", 1)))
    found = before.parts[PARTS[part.family] or ""]
    return _with_size(part, name, getattr(found, "num_keys" if name == "num_slots" else name))


def _with_size(part: Family, name: str, size: int) -> Family:
    """Return a part with the size that was solved; of product keys that is the square root of the slots."""
    changes: dict[str, Any] = {name: size * size if name == "num_slots" else size}
    return replace(part, **changes)


def _size_of_share(
    model: CostModel, dense: list[float], family: MixtureFamily, total: float, sequence_length: int, tolerance: float
) -> int:
    """Return the size of the first part at which its share is nearest to the family's. Raises PlanError."""
    assert family.share is not None
    field, row = PARTS[family.parts[0].family] or "", model.names.index("total_params")
    # Beyond the largest model another expert costs more in the router than the experts' width can give back.
    room = outer_widths(model, dense, (Bound(row=row, low=0.0, high=total),), tolerance)
    sizes = Candidates(model, dense, room).up_to_largest_model(row, tolerance).outer
    if not len(sizes):
        sizes = np.array([model.template.outer.least if model.template.outer is not None else 1], dtype=np.int64)

    def share_of(index: int) -> float:
        inner, _ = Candidates(model, dense, sizes[index : index + 1]).best_inner()
        built = model.template.build(int(sizes[index]), max(1, int(inner[0])))
        sparse = total - count(built, sequence_length).params_active
        return unused_params(built, field, sequence_length) / sparse if sparse > 0 else math.inf

    low, high = 0, len(sizes) - 1
    most = share_of(high)
    if most < family.share and abs(share_of(max(0, high - 1)) - most) < family.share - most:
        name = size_name(family.parts[0])
        raise PlanError(
            f"families.{family.name}.share is {family.share:g}, but the dense model leaves its first part, "
            f"{family.parts[0].name}, room for {most:.3g} of the sparse parameters at most ({name} {sizes[high]}): ask "
            "for a smaller share or matching.total_over_dense, fewer experts per token, or a larger shape"
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if share_of(middle) < family.share else (low, middle)
    share = family.share
    return int(sizes[min((low, high), key=lambda index: (abs(share_of(index) - share), index))])
