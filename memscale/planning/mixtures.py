"""The size of a mixture's first part, from its share of the sparse parameters.

1. Sparse parameters are those that are stored and that a token does not use: experts it is not sent to, rows it does
   not read (the allocation of Cheng et al. 2026).
2. The first part's grow with its size, so that the size whose share is nearest is found by bisection. At each size the
   inner width is the one that meets `matching.equal` best.
3. The last part's size is then solved as that of any family (`memscale.planning.matching`); it takes up what the whole
   numbers of the first leave.
4. This is done twice: first of the least total that was asked for and with the last part at its smallest, then of the
   total and with the last part that came out.

Refuses a share without `total_over_dense`, and parts without a size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from memscale.config.architecture import PARTS, Architecture
from memscale.config.family import Family, MixtureFamily
from memscale.errors import ConfigError
from memscale.planning.accounting import count, unused_params
from memscale.planning.candidates import MAX_WIDTH, Candidates
from memscale.planning.cost_model import CostModel
from memscale.planning.widths import size_name


def with_sizes(
    family: MixtureFamily,
    *,
    least_total: float | None,
    before: Architecture | None,
    sequence_length: int,
    rotated: Callable[[MixtureFamily], CostModel],
    dense: list[float],
) -> MixtureFamily:
    """Return `family` with the size of every part but the last.

    Args:
        family: The mixture.
        least_total: Total parameters that the matched model is to have at least; None where `total_over_dense` is null.
        before: The model as it was matched before, if it was.
        sequence_length: Tokens per training sequence.
        rotated: Gives the costs of a mixture of the same parts, whose last part is the open one.
        dense: The dense model's value of each criterion.

    Raises:
        ConfigError: A part has no size, or there is a share and no total to share.

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
    size = _size_of_share(model, dense, PARTS[first.family] or "", family.share, total, sequence_length)
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
    model: CostModel, dense: list[float], field: str, share: float, total: float, sequence_length: int
) -> int:
    """Return the size at which part `field` has the share nearest to `share`."""
    outer = model.template.outer
    assert outer is not None

    def share_of(steps: int) -> float:
        at = steps * outer.step
        inner, _ = Candidates(model, dense, np.array([at], dtype=np.int64)).best_inner()
        built: Architecture = model.template.build(at, max(1, int(inner[0])))
        sparse = total - count(built, sequence_length).params_active
        return unused_params(built, field, sequence_length) / sparse if sparse > 0 else math.inf

    low = outer.least // outer.step
    high = low
    while share_of(high) < share and high * outer.step < MAX_WIDTH:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if share_of(middle) < share else (low, middle)
    return min((low, high), key=lambda steps: (abs(share_of(steps) - share), steps)) * outer.step
