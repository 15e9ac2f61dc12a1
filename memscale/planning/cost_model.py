"""The costs of a family as polynomials of its open widths, interpolated from a few exact counts.

1. Every quantity is affine in the inner width w: A(o) + B(o) w.
2. A and B are at most quadratic in the outer width o (number of experts, half keys per set, rows, width of a row).
   Expert choice rounds its capacity, so there the trained experts per token take the place of the quadratic term.
3. Counts at up to three outer and two inner widths (the nodes) therefore give all coefficients, by Newton's forward
   differences. For whole numbers below 2^53 they are exact in float64.
4. A quantity may have kinks (rows read of a table smaller than what is selected). It is counted once more away from
   the nodes and again at the answer (`CostModel.verify`); where it differs, it is counted at every point instead.

Shapes: N outer widths, Q quantities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memscale.config.architecture import Architecture
from memscale.planning.accounting import count
from memscale.planning.quantities import measure
from memscale.planning.widths import Template

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SPACING = 128
"""Between nodes of the outer width: a power of two, by which floats divide exactly."""
_INNER_SPACING = 1 << 16
_COUNTED = {
    "flops_per_token": "flops_per_token_forward",
    "active_params": "params_active",
    "total_params": "params_total",
    "non_embedding_params": "params_non_embedding",
    "table_params": "params_table",
}
_WITHOUT_KINKS = ("flops_per_token", "total_params", "non_embedding_params", "table_params", "kv_cache_bytes")
_SLOPES = {
    ("num_slots", "ffn_hidden"): 1,
    ("num_slots", "key_width"): 2,
    ("num_slots", "value_width"): 3,
    ("num_experts", "ffn_hidden"): 1,
    ("num_experts", "expert_hidden"): 2,
}  # 1 for others
"""Number of coefficients of B(o): 1 constant, 2 linear, 3 quadratic."""
RELATIVE_ROUNDING = 1e-9
"""Largest relative rounding error of an interpolated quantity."""
MAX_ROUNDING = 2.0
"""A + B w may differ by less than this from a quantity that is rounded to a whole number."""


def quantities(
    names: Sequence[str], architecture: Architecture, sequence_length: int, flops_per_second: float | None
) -> list[float]:
    """Measure `architecture` in every quantity of `names`, with one count for all that a count gives.

    `flops_per_second` is the measured training throughput that `seconds_per_token` needs. Raises ConfigError.
    """
    counts = count(architecture, sequence_length)
    return [
        float(getattr(counts, _COUNTED[name]))
        if name in _COUNTED
        else measure(name, architecture, sequence_length, flops_per_second)
        for name in names
    ]


class CostModel:
    """The quantities `names` of one template at all its widths."""

    def __init__(
        self, template: Template, names: Sequence[str], sequence_length: int, flops_per_second: float | None = None
    ) -> None:
        """Count the template at the nodes and solve for the coefficients. Raises ConfigError."""
        self.template = template
        self.names = tuple(names)
        self._sequence_length = sequence_length
        self._flops_per_second = flops_per_second
        self._counted: dict[int, tuple[list[float], list[float]]] = {}
        self._expert_choice = (
            template.outer is not None and template.outer.name == "num_experts" and template.expert_choice
        )
        self._counted_rows = set(self.rounded_rows)
        """Rows that are counted at every point instead of interpolated."""
        self._base = 0 if template.outer is None else template.outer.least + _SPACING
        self._fit()
        self._verify_away_from_nodes()

    def with_template(self, template: Template) -> CostModel:
        """Return the same quantities for a template with other widths open."""
        return CostModel(template, self.names, self._sequence_length, self._flops_per_second)

    @property
    def can_fall(self) -> bool:
        """Whether a quantity may fall when the outer width grows: the rounded capacity of expert choice."""
        return self._expert_choice

    @property
    def rounded_rows(self) -> list[int]:
        """Rows rounded to whole numbers, which A + B w may miss by less than `MAX_ROUNDING`."""
        if not self.template.expert_choice:
            return []
        return [row for row, name in enumerate(self.names) if name == "active_params"]

    def count_exactly(self, architecture: Architecture) -> list[float]:
        """Return every quantity of one of the template's architectures, [Q], counted and not interpolated."""
        return quantities(self.names, architecture, self._sequence_length, self._flops_per_second)

    def coefficients(self, outer_N: Ints) -> tuple[Floats, Floats]:
        """Return A and B, [Q, N] each (B may be [Q, 1]), so that A + B w are the quantities at inner width w."""
        constant, slope = self._evaluate(outer_N)
        if self._counted_rows:
            slope = np.array(np.broadcast_to(slope, constant.shape))
            for n, outer in enumerate(outer_N.tolist()):
                counted = self._count_along_inner(outer)
                for row in self._counted_rows:
                    constant[row, n], slope[row, n] = counted[0][row], counted[1][row]
        return constant, slope

    def verify(self, outer: int, inner: int, counted: Sequence[float]) -> bool:
        """Return whether the polynomials give `counted`, [Q], at these widths.

        A quantity that does not hold is counted at every point from now on, so a second search with this model is exact
        in it.
        """
        found = self._value(outer, inner)
        wrong = {row for row, value in enumerate(counted) if abs(found[row] - value) > self._rounding(row, value)}
        new = wrong - self._counted_rows
        self._counted_rows |= new
        return not new

    def count_rounded(self, values_QP: Floats, outer_P: Ints, inner_P: Ints) -> None:
        """Replace the rows of `values_QP` that are rounded to whole numbers by exact counts."""
        rows = self.rounded_rows
        for p, (outer, inner) in enumerate(zip(outer_P.tolist(), inner_P.tolist(), strict=True)):
            counted = self._count(outer, inner)
            for row in rows:
                values_QP[row, p] = counted[row]

    def _count(self, outer: int, inner: int) -> list[float]:
        return self.count_exactly(self.template.build(outer, inner))

    def _value(self, outer: int, inner: int) -> list[float]:
        if self._counted_rows or self._expert_choice or self.template.outer is None:
            constant, slope = self.coefficients(np.array([outer], dtype=np.int64))
            return [float(value) for value in constant[:, 0] + slope[:, 0] * inner]
        units = (outer - self._base) / _SPACING
        second = units * (units - 1) * 0.5
        return [
            a[0] + a[1] * units + a[2] * second + (b[0] + b[1] * units + b[2] * second) * inner
            for a, b in zip(self._constant, self._slope, strict=True)
        ]

    def outer_limit(self, row: int, inner: int, value: float) -> float:
        """Return the outer width above which quantity `row` exceeds `value` at inner width `inner`; inf without one."""
        if row in self._counted_rows:
            return math.inf
        start, first, second = (a + b * inner for a, b in zip(self._constant[row], self._slope[row], strict=True))
        if self._expert_choice:
            second = 0.0  # what the rounded capacity adds is never negative
        # start + first u + second u (u - 1) / 2 = value
        a, b, c = second / 2, first - second / 2, start - value
        if a > 0:
            root = b * b - 4 * a * c
            units = (math.sqrt(root) - b) / (2 * a) if root > 0 else -math.inf
        elif b > 0:
            units = -c / b
        else:
            return math.inf
        return self._base + _SPACING * units

    def _fit(self) -> None:
        outer, inner = self.template.outer, self.template.inner
        terms = 1 if outer is None else 3 if outer.name == "num_slots" or self._expert_choice else 2
        slopes = 0 if inner is None else 1
        if outer is not None and inner is not None:
            slopes = _SLOPES.get((outer.name, inner.name), 1)
            if self._expert_choice and slopes == 2:
                slopes = 3
        nodes = [self._base + i * _SPACING for i in range(3)]
        if self._expert_choice:
            nodes[2] = self._third_node()
        least = 0 if inner is None else inner.least
        low = [self._count(node, least) for node in nodes[:terms]]
        high = [self._count(node, least + _INNER_SPACING) for node in nodes[:slopes]]
        rises = [
            [(h - v) / _INNER_SPACING for h, v in zip(hs, vs, strict=True)] for hs, vs in zip(high, low, strict=False)
        ]
        rows = self._feature_rows(nodes) if self._expert_choice else None

        def solve(values: list[float]) -> list[float]:
            return _newton(values) if rows is None else _solve(rows, values)

        self._slope = [solve([rise[row] for rise in rises]) for row in range(len(self.names))]
        self._constant = [solve([value[row] for value in low]) for row in range(len(self.names))]
        for a, b in zip(self._constant, self._slope, strict=True):
            for i in range(3):
                a[i] -= least * b[i]
        self._constant_QF = np.array(self._constant, dtype=np.float64)[:, :, None]
        self._slope_QF = np.array(self._slope, dtype=np.float64)[:, :, None]
        self._slopes = slopes

    def _third_node(self) -> int:
        """Return where the trained experts per token lie farthest from the line through the first two nodes.

        They are the capacity factor where an expert takes many tokens of a sequence, and E / s where it takes one.
        """
        assert self.template.outer is not None
        many = self._base + 8 * self._sequence_length * (1 + int(self.template.part["capacity_factor"]))
        nodes = [self._base, self._base + _SPACING, self.template.outer.least, many]
        units, trained = self._features(np.array(nodes, dtype=np.int64))
        distance = np.abs(trained - trained[0] - units * (trained[1] - trained[0]))
        return nodes[2] if distance[2] > distance[3] else nodes[3]

    def _feature_rows(self, nodes: list[int]) -> list[list[float]]:
        outer = np.array(nodes, dtype=np.int64)
        return [[float(f[n]) for f in (np.ones(len(nodes)), *self._features(outer))] for n in range(len(nodes))]

    def _features(self, outer_N: Ints) -> tuple[Floats, Floats]:
        """Return u, and u (u - 1) / 2 or for expert choice the trained experts per token; u is o in node spacings."""
        units = (outer_N - self._base) / float(_SPACING)
        if not self._expert_choice:
            return units, units * (units - 1) * 0.5
        s = self._sequence_length
        tokens = np.rint(self.template.part["capacity_factor"] * s / outer_N)
        return units, np.minimum(s, np.maximum(1, tokens)) * outer_N / s

    def _evaluate(self, outer_N: Ints) -> tuple[Floats, Floats]:
        a, b = self._constant_QF, self._slope_QF
        if self.template.outer is None:
            return np.repeat(a[:, 0], len(outer_N), axis=1), b[:, 0]
        first, second = self._features(outer_N)
        constant = a[:, 0] + a[:, 1] * first + a[:, 2] * second
        slope = b[:, 0] if self._slopes < 2 else b[:, 0] + b[:, 1] * first + b[:, 2] * second
        return constant, slope

    def _verify_away_from_nodes(self) -> None:
        if all(name in _WITHOUT_KINKS for name in self.names) and not self._expert_choice:
            return
        outer, inner = self.template.outer, self.template.inner
        if outer is None:
            return
        narrow = 0 if inner is None else inner.least
        third, more = _SPACING // 3 // outer.step * outer.step, outer.step
        sizes = (outer.least, outer.least + third, 7 * self._base + more, 100 * self._base + more)
        for size, width in zip(sizes, (narrow, narrow + 512, narrow, narrow), strict=True):
            self.verify(size, width, self._count(size, width))

    def _rounding(self, row: int, value: float) -> float:
        return RELATIVE_ROUNDING * abs(value) + (
            MAX_ROUNDING if self._counted_rows and row in self.rounded_rows else 0.0
        )

    def _count_along_inner(self, outer: int) -> tuple[list[float], list[float]]:
        if outer not in self._counted:
            inner = self.template.inner
            low = self._count(outer, 0 if inner is None else inner.least)
            slope = [0.0] * len(low)
            if inner is not None:
                high = self._count(outer, inner.least + _INNER_SPACING)
                slope = [(h - v) / _INNER_SPACING for h, v in zip(high, low, strict=True)]
                low = [v - b * inner.least for v, b in zip(low, slope, strict=True)]
            self._counted[outer] = low, slope
        return self._counted[outer]


def _newton(values: Sequence[float]) -> list[float]:
    """Return the coefficients of 1, u and u (u - 1) / 2 from the values at u = 0, 1, 2; missing ones are zero."""
    if len(values) < 2:
        return [*values, 0.0, 0.0, 0.0][:3]
    first = values[1] - values[0]
    return [values[0], first, values[2] - values[1] - first if len(values) > 2 else 0.0]


def _solve(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Return three coefficients that give `values` at the nodes, by elimination in a fixed order; missing ones zero."""
    n = len(values)
    matrix = [[*rows[i][:n], values[i]] for i in range(n)]
    for i in range(n):
        for k in range(i + 1, n):
            factor = matrix[k][i] / matrix[i][i]
            matrix[k] = [x - factor * y for x, y in zip(matrix[k], matrix[i], strict=True)]
    found = [0.0, 0.0, 0.0]
    for i in reversed(range(n)):
        known = sum(matrix[i][k] * found[k] for k in range(i + 1, n))
        found[i] = (matrix[i][n] - known) / matrix[i][i]
    return found
