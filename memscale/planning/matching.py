"""Solves the widths of the sparse models so that each budget is a fair comparison.

At every budget the dense model fixes what is shared per token (`matching.equal`), and the sparse models share a size
(`matching.sparse_equal`). Their open widths move on whole numbers until all of it agrees. The answer has the least
worst mismatch of all lattice points within the bounds:
- the total parameters lie between `total_over_dense` times the dense model's and a tenth more; or, where families give
  their size, the shared quantity within the tolerance of theirs;
- no model has more experts or slots than the largest one that the dense model's FLOPs (or what else is equal) allow;
  beyond it the router or the scoring of keys takes more than the widths have left to give.
The proof is the search: a threshold keeps every point whose own mismatch is not above it, so that none left out can be
better. Refuses where the answer misses the tolerance, and says which width would have to move to what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from memscale.config.architecture import Architecture
from memscale.config.family import DenseFamily, Family
from memscale.config.matching import Matching
from memscale.errors import ConfigError, PlanError
from memscale.planning.lattice import RELATIVE_ROUNDING, Ints, Lattice, quantities
from memscale.planning.points import Bound, Points, Pool, outer_widths, points_within
from memscale.planning.refusals import signed, too_far_apart, unreachable
from memscale.planning.selection import choose, partners
from memscale.planning.widths import Template, free_widths, template

_WINDOW = 1.1
"""Total parameters may exceed what `total_over_dense` asks for by this factor."""
_FIRST_THRESHOLD = 1 / 16
"""Of the tolerance."""
_PARTNERS = 4
"""Points are searched for partners up to this many thresholds away: what is farther cannot win, but what is a little
farther bounds the answer where nothing lies within the threshold."""


@dataclass(frozen=True, kw_only=True)
class Matched:
    """A model whose widths are all solved."""

    architecture: Architecture
    off: tuple[tuple[str, float], ...]
    """(criterion, relative mismatch against the dense model) for each of `Matching.equal_per_token`."""


def match(
    dense: Architecture, families: Mapping[str, Family], matching: Matching, sequence_length: int
) -> dict[str, Matched]:
    """Match every series (label -> its family) to `dense`, which is trained at `sequence_length`.

    On a tie the smaller models win: by the shared quantity, then by total parameters. Raises ConfigError for terms that
    contradict each other, and PlanError where no point is within the tolerance. Budgets that differ in their length
    alone are solved once.
    """
    return dict(_match(dense, tuple(families.items()), matching, sequence_length))


@lru_cache(maxsize=1024)
def _match(
    dense: Architecture, series: tuple[tuple[str, Family], ...], matching: Matching, sequence_length: int
) -> tuple[tuple[str, Matched], ...]:
    families = dict(series)
    terms = _Terms(dense, families, matching, sequence_length)
    solved = {label: terms.dense(label, one) for label, one in families.items() if isinstance(one, DenseFamily)}
    templates = [
        template(label, one, dense, matching) for label, one in families.items() if not isinstance(one, DenseFamily)
    ]
    lattices = [terms.lattice(one) for one in templates]
    while lattices:
        if matching.sparse_equal is None:
            points = [_alone(terms, lattice) for lattice in lattices]
        else:
            points = _together(terms, lattices)
        built = [lattice.template.build(*at) for lattice, at in zip(lattices, points, strict=True)]
        found = [lattice.real(one) for lattice, one in zip(lattices, built, strict=True)]
        distrusted = [one.distrust(*at, real) for one, at, real in zip(lattices, points, found, strict=True)]
        if any(distrusted):
            continue  # what was read off the nodes does not hold there: solve again on real counts
        for lattice, architecture, real in zip(lattices, built, found, strict=True):
            solved[lattice.template.series] = Matched(architecture=architecture, off=terms.off(real))
        break
    return tuple((label, solved[label]) for label in families)


class _Terms:
    """What one budget asks of all its models."""

    def __init__(
        self, dense: Architecture, families: Mapping[str, Family], matching: Matching, sequence_length: int
    ) -> None:
        self.matching = matching
        self.criteria = matching.equal_per_token
        names = (*self.criteria, *([] if matching.sparse_equal is None else [matching.sparse_equal]), "total_params")
        self.names = tuple(dict.fromkeys(names))
        self.shared = self.names.index(matching.sparse_equal or "total_params")
        self.total = self.names.index("total_params")
        self.size_is_equal = "total_params" in self.criteria or "training_memory" in self.criteria
        self._architecture = dense
        self._sequence_length = sequence_length
        self._throughput = {one.name: one.flops_per_second for one in matching.throughput}
        anchors = [one.name for one in families.values() if isinstance(one, DenseFamily)]
        anchor = next((name for name in anchors if name in self._throughput), "dense")
        values = quantities(self.names, dense, sequence_length, self._speed(anchor))
        self.dense_values = values[: len(self.criteria)]
        self.dense_total = values[self.total]

    def lattice(self, one: Template) -> Lattice:
        return Lattice(one, self.names, self._sequence_length, self._speed(one.family.name))

    def dense(self, label: str, family: Family) -> Matched:
        """The dense model itself, of another hidden width where the family gives one. Raises PlanError."""
        free_widths(family, self.matching)
        architecture = self._architecture
        if family.ffn_hidden is not None:
            architecture = replace(architecture, ffn_hidden=family.ffn_hidden)
        real = quantities(self.names, architecture, self._sequence_length, self._speed(family.name))
        off = self.off(real)
        for criterion, mismatch in off:
            if abs(mismatch) > self.matching.tolerance:
                raise PlanError(
                    f"{label}: ffn_hidden {family.ffn_hidden} is {signed(mismatch)} off the budget's dense model "
                    f"(ffn_hidden {self._architecture.ffn_hidden}) in {criterion}, which matching.equal holds equal. "
                    f"Leave families.{family.name}.ffn_hidden out, or take {criterion} out of matching.equal"
                )
        return Matched(architecture=architecture, off=off)

    def off(self, real: Sequence[float]) -> tuple[tuple[str, float], ...]:
        return tuple(
            (name, value / wanted - 1)
            for name, value, wanted in zip(self.criteria, real, self.dense_values, strict=False)
        )

    def _speed(self, name: str) -> float | None:
        if "seconds_per_token" not in self.criteria:
            return None
        if name not in self._throughput:
            raise ConfigError(
                f"matching.equal names seconds_per_token, which needs matching.throughput.{name}: the measured "
                f"training FLOPs per second of {name}; given are: {', '.join(self._throughput) or 'none'}"
            )
        return self._throughput[name]

    def unreachable(self, lattice: Lattice, bounds: Sequence[Bound], fixed: Ints | None) -> PlanError:
        return unreachable(lattice, self.criteria, self.dense_values, bounds, self.matching, fixed)


def _alone(terms: _Terms, lattice: Lattice) -> tuple[int, int]:
    """The best point of a family that shares nothing with the other sparse ones. Raises PlanError."""
    one, matching = lattice.template, terms.matching
    opened = (one.outer is not None) + (one.inner is not None)
    # With nothing to say how large it is, the criteria themselves can, if there is one for each open width.
    if one.outer_is_free and matching.total_over_dense is None and 0 < opened <= len(terms.criteria):
        points = points_within(lattice, terms.dense_values, (), matching.tolerance, terms.total)
        size = None
    else:
        size = _fixed_size(terms, lattice)
        points = Points(lattice, terms.dense_values, size)
    if not len(points.outer):
        raise terms.unreachable(lattice, (), size)
    inner, off = points.nearest()
    best = int(np.lexsort((points.totals(inner, terms.total), off))[0])
    if off[best] > matching.tolerance:
        raise terms.unreachable(lattice, (), points.outer[best : best + 1])
    return int(points.outer[best]), int(inner[best])


def _fixed_size(terms: _Terms, lattice: Lattice) -> Ints:
    """The outer width of a family whose size is given, or is the least that `total_over_dense` asks for; [1]."""
    if lattice.template.outer is None:
        return np.zeros(1, dtype=np.int64)
    bound = Bound(row=terms.total, low=_least_total(terms, lattice.template), high=np.inf)
    outer = outer_widths(lattice, (), (replace(bound, high=bound.low),), terms.matching.tolerance)
    # The last of these may still be too small by what rounding leaves.
    outer = np.append(outer, outer[-1] + lattice.template.outer.step) if len(outer) else _least_size(lattice)
    points = Points(lattice, terms.dense_values, outer)
    inner, _ = points.nearest()
    total = points.totals(inner, terms.total)
    reached = np.flatnonzero(total >= bound.low * (1 - RELATIVE_ROUNDING))
    at = int(reached[0]) if len(reached) else len(outer) - 1
    return outer[at : at + 1]


def _least_size(lattice: Lattice) -> Ints:
    assert lattice.template.outer is not None
    return np.array([lattice.template.outer.least], dtype=np.int64)


def _least_total(terms: _Terms, one: Template) -> float:
    assert one.outer is not None
    if terms.matching.total_over_dense is None:
        name = one.family.name
        raise ConfigError(
            f"nothing gives {one.series} its size: set matching.total_over_dense, or families.{name}.{one.outer.name}"
        )
    if "total_params" in terms.criteria:
        raise ConfigError(
            "matching.equal holds total_params equal to the dense model's, and matching.total_over_dense asks for "
            f"{terms.matching.total_over_dense:g} times as many; set total_over_dense to null"
        )
    return terms.matching.total_over_dense * terms.dense_total


def _together(terms: _Terms, lattices: Sequence[Lattice]) -> list[tuple[int, int]]:
    """The best point of each of several families that share a size. Raises ConfigError and PlanError."""
    for lattice in lattices:
        if terms.matching.sparse_equal == "table_params" and lattice.template.family.family == "moe":
            raise ConfigError(
                f"matching.sparse_equal is table_params, but {lattice.template.series} has no table; name total_params"
            )
    fixed = {
        lattice.template.series: _fixed_size(terms, lattice)
        for lattice in lattices
        if not lattice.template.outer_is_free
    }
    tolerance = terms.matching.tolerance
    points: list[Points] = []
    bounds: list[tuple[Bound, ...]] = []
    window = _window(terms, lattices, fixed)
    for lattice in lattices:
        size = fixed.get(lattice.template.series)
        within = window if size is None else ()
        if size is None:
            points.append(points_within(lattice, terms.dense_values, within, tolerance, terms.total))
        else:
            points.append(Points(lattice, terms.dense_values, size))
        bounds.append(within)

    def pools(threshold: float) -> list[Pool]:
        return [
            one.pool(threshold, within, terms.shared, terms.total) for one, within in zip(points, bounds, strict=True)
        ]

    threshold, failed = tolerance * _FIRST_THRESHOLD, -1.0
    while True:
        kept = pools(threshold)
        choice = choose(partners(kept, _PARTNERS * threshold), failed)
        if choice is not None and choice.worst <= threshold:
            break
        if threshold >= tolerance:
            for lattice, pool, within in zip(lattices, kept, bounds, strict=True):
                if len(pool) == 0:
                    raise terms.unreachable(lattice, within, fixed.get(lattice.template.series))
            raise too_far_apart(lattices, kept, choose(kept), terms.matching)
        # With every point up to the worst mismatch of a choice, the best choice is among them.
        failed = threshold if choice is not None else failed
        threshold = min(tolerance, 4 * threshold if choice is None else choice.worst)
    return choice.points


def _window(terms: _Terms, lattices: Sequence[Lattice], fixed: Mapping[str, Ints]) -> tuple[Bound, ...]:
    """Where the sparse models' size may lie. Raises PlanError where the given sizes exclude each other."""
    tolerance = terms.matching.tolerance
    if not fixed and terms.matching.total_over_dense is None and terms.size_is_equal:
        return ()
    if not fixed:
        low = _least_total(terms, lattices[0].template)
        return (Bound(row=terms.total, low=low, high=low * _WINDOW),)
    low, high = 0.0, np.inf
    for lattice in lattices:
        size = fixed.get(lattice.template.series)
        if size is None:
            continue
        pool = Points(lattice, terms.dense_values, size).pool(tolerance, (), terms.shared, terms.total)
        if len(pool) == 0:
            raise terms.unreachable(lattice, (), size)
        slack = 1 + RELATIVE_ROUNDING
        low = max(low, float(pool.shared[0]) / (1 + tolerance) / slack)
        high = min(high, float(pool.shared[-1]) * (1 + tolerance) * slack)
    return (Bound(row=terms.shared, low=low, high=high),)
