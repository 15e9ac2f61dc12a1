"""What AdamW does to a row in the steps in which it gets no gradient, in closed form.

With g = 0 the moments only decay, m_j = beta1^(j-s) m_s and v_j = beta2^(j-s) v_s, and the weights move by what depends
on the step j alone but for m and v. From step s, when the row was last up to date, to now, n:

    p_n = P_n/P_s p_s - m_s * sum_{j=s+1..n} a_j / (z_j sqrt(v_s) + eps)
    P_n = prod_{j<=n} (1 - rate_j decay)
    a_j = rate_j / (1 - beta1^j) * beta1^(j-s) * P_n/P_j
    z_j = beta2^((j-s)/2) / sqrt(1 - beta2^j)

(Loshchilov and Hutter 2019 with g = 0.) Without eps the sum is one number over sqrt(v); with it, it depends on every
element, and eps matters: the gradient of a row that few of many tokens read is often about as small. So the sum is
taken by Gauss's quadrature with three nodes, the weights a_j / z_j being the measure over z and z / (z sqrt(v) + eps)
the function: exact for up to three idle steps, where eps is negligible, and where it is all that counts; between them
off by at most 3e-4 of the sum (betas .9 and .95; 6e-3 from the first step on; far less for larger beta2, and up to
2e-2 where beta2 is as small as beta1).

The measure's moments grow by one term a step for each s, until (beta1 / sqrt(beta2))^(j-s) is nothing; later a row's
owed movement only shrinks by weight decay. A step therefore costs the same however long training has been going on, and
is a pure function of the rates so far: a resumed run goes through the same numbers.
Refuses beta1 > beta2, for which three nodes are too few, and rates that weight decay would turn rows round by.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from memscale.errors import ConfigError
from memscale.kernels.numba_jit import numba_jit

NUM_NODES = 3
LOG_DECAY, BETA1_POWER, BETA2_POWER, FACTORS, NODES = 0, 1, 2, 3, 3 + NUM_NODES
"""Columns of `table`; FACTORS and NODES are the first of NUM_NODES each."""
NUM_COLUMNS = 3 + 2 * NUM_NODES

_NOTHING = 1e-12
"""Share of a movement that is not worth another term."""
_DEGENERATE = 1e-12
"""Relative spread below which a measure has no further node."""

Floats = NDArray[np.float64]


class LazyDecay:
    """The numbers above for every s, after each step."""

    def __init__(self, *, beta1: float, beta2: float, weight_decay: float) -> None:
        if beta1 > beta2:
            raise ConfigError(
                f"beta1 is {beta1:g} and beta2 is {beta2:g}; lazy AdamW needs beta1 <= beta2, for otherwise what a row "
                "without a gradient owes has no good closed form. Use table_optimizer=dense_adamw, or other betas"
            )
        self._beta1, self._beta2, self._weight_decay = beta1, beta2, weight_decay
        # In so many steps (beta1 / sqrt(beta2))^steps has come down to nothing.
        ratio = beta1 / math.sqrt(beta2) if beta1 > 0.0 else 0.0
        self.window = math.ceil(math.log(_NOTHING) / math.log(ratio)) if ratio > 0.0 else 1
        """Rows of `table` that a step may change, the last ones."""
        self.num_steps = 0
        self._table = np.zeros((64, NUM_COLUMNS))
        self._table[0, [BETA1_POWER, BETA2_POWER]] = 1.0
        self._first_node, self._moments = np.zeros(64), np.zeros((64, 2 * NUM_NODES))

    @property
    def table(self) -> Floats:
        """[num_steps + 1, NUM_COLUMNS]. Row s: the logarithm of P_s; beta1^s and beta2^s; and, for a row last up to
        date at step s, f_i and y_i so that the sum above is P_n/P_s * sum_i f_i / (y_i sqrt(v_s) + eps)."""
        return self._table[: self.num_steps + 1]

    def advance(self, rates: Iterable[float]) -> None:
        """Take steps at these rates. Raises ConfigError."""
        for rate in rates:
            self._advance(rate)

    def check(self, rate: float) -> None:
        """Raise ConfigError where no step can be taken at this rate."""
        decay = rate * self._weight_decay
        if decay >= 1.0:
            raise ConfigError(
                f"a table's rate times its weight decay is {rate:g} * {self._weight_decay:g} = {decay:g}; lazy AdamW "
                "needs less than 1, for at 1 a step would set the weights to zero. Lower either"
            )

    def _advance(self, rate: float) -> None:
        self.check(rate)
        self.num_steps += 1
        n = self.num_steps
        if n >= len(self._table):
            for name in ("_table", "_first_node", "_moments"):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros_like(old)]))
        self._table[n, LOG_DECAY] = self._table[n - 1, LOG_DECAY] + math.log1p(-rate * self._weight_decay)
        self._table[n, BETA1_POWER], self._table[n, BETA2_POWER] = self._beta1**n, self._beta2**n
        since = max(0, n - self.window)
        _add_step(n, since, rate / (1.0 - self._beta1**n), self._table, self._first_node, self._moments)


def _add_step_loop(n: int, since: int, rate: float, table: Floats, first_node: Floats, moments: Floats) -> None:
    """Add step n, at `rate` over its bias correction, to the measures that begin at `since` and later.

    Moments are of 1 - z / z_first, whose powers are all positive, so that sums keep their relative precision.
    """
    correction = 1.0 - table[n, BETA2_POWER]
    for s in range(since, n):
        z = math.sqrt(table[n - s, BETA2_POWER] / correction)
        if s == n - 1:
            first_node[s] = z
        term = rate * table[n - s, BETA1_POWER] * math.exp(table[s, LOG_DECAY] - table[n, LOG_DECAY]) / z
        for k in range(2 * NUM_NODES):
            moments[s, k] += term
            term *= 1.0 - z / first_node[s]
        _quadrature(moments[s], table[s, FACTORS:NODES], table[s, NODES:])
        for i in range(NUM_NODES):
            table[s, NODES + i] = first_node[s] * (1.0 - table[s, NODES + i])
            table[s, FACTORS + i] *= table[s, NODES + i]


def _quadrature_loop(moments: Floats, weights: Floats, nodes: Floats) -> None:
    """Put into `weights` and `nodes` Gauss's quadrature for the measure with these moments 0 to 5.

    The nodes are the eigenvalues of the 3 x 3 Jacobi matrix (Golub and Welsch 1969), here written about the mean:
    zero, `skew` and `last` on its diagonal, the roots of `spread` and `coupling` beside it. A measure on one or two
    points gets those, and zero weights.
    """
    weights[:], nodes[:] = 0.0, 0.0
    total = moments[0]
    if total <= 0.0:
        return
    mean = moments[1] / total
    m2, m3, m4, m5 = moments[2] / total, moments[3] / total, moments[4] / total, moments[5] / total
    spread = m2 - mean * mean
    if spread <= _DEGENERATE * m2:
        weights[0], nodes[0] = total, mean
        return
    c3 = m3 - mean * (3.0 * m2 - 2.0 * mean * mean)
    c4 = m4 - mean * (4.0 * m3 - mean * (6.0 * m2 - 3.0 * mean * mean))
    c5 = m5 - mean * (5.0 * m4 - mean * (10.0 * m3 - mean * (10.0 * m2 - 4.0 * mean * mean)))
    skew = c3 / spread
    coupling = c4 / spread - skew * skew - spread
    if coupling <= _DEGENERATE * c4 / spread:
        root = math.sqrt(0.25 * skew * skew + spread)
        nodes[0], nodes[1] = 0.5 * skew - root, 0.5 * skew + root
        for i in range(2):
            weights[i] = total / (1.0 + nodes[i] * nodes[i] / spread)
            nodes[i] += mean
        return
    last = c5 - 2.0 * skew * c4 + (skew * skew - 2.0 * spread) * c3 + 2.0 * skew * spread * spread
    last /= spread * coupling
    # Roots of the characteristic polynomial by Viete's trigonometric formula: all three are real.
    third = (skew + last) / 3.0
    a = skew * last - coupling - spread
    radius = math.sqrt(max(third * third - a / 3.0, 0.0))
    half = third * third * third - 0.5 * (a * third + spread * last)
    angle = math.acos(min(1.0, max(-1.0, half / (radius * radius * radius)))) / 3.0
    for i in range(NUM_NODES):
        x = third + 2.0 * radius * math.cos(angle - 2.0 * math.pi * i / 3.0)
        second = x * x - skew * x - spread
        weights[i] = total / (1.0 + x * x / spread + second * second / (spread * coupling))
        nodes[i] = min(1.0, max(0.0, mean + x))


_quadrature = numba_jit()(_quadrature_loop)
_add_step = numba_jit()(_add_step_loop)
