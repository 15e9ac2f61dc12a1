"""The closed form of what AdamW does to a table row during steps in which the row gets no gradient.

A row that no token looks up still changes under dense AdamW: its moments decay, and its weights decay and move along
the decaying first moment. With g = 0 all of that depends on the steps alone, so it can be deferred and applied at once
when the row is next looked up ("lazy" as in LazyAdam and SparseAdam, but exact). The derivation, per element:

1. AdamW (Loshchilov and Hutter 2019, algorithm 2) with g = 0 in the steps j = s+1..n:

       m_j = beta1 m_{j-1}          v_j = beta2 v_{j-1}
       p_j = (1 - lr_j wd) p_{j-1} - lr_j m_j / (1 - beta1^j) / (sqrt(v_j) / sqrt(1 - beta2^j) + eps)

2. The moments are geometric: m_j = beta1^(j-s) m_s and v_j = beta2^(j-s) v_s.

3. Weight decay is a product, P_n = prod_{j<=n} (1 - lr_j wd). From step s to step n it multiplies the weights by
   P_n / P_s, and what step j subtracts by P_n / P_j.

4. Unrolling step 1 with steps 2 and 3 gives

       p_n = P_n/P_s p_s - m_s * sum_{j=s+1..n} a_j / (z_j sqrt(v_s) + eps)
       a_j = lr_j / (1 - beta1^j) * beta1^(j-s) * P_n/P_j
       z_j = beta2^((j-s)/2) / sqrt(1 - beta2^j)

5. Without eps the sum is one coefficient, sum_j a_j / z_j, over sqrt(v_s). With eps it depends on every element, and
   eps matters: the gradient of a row that few of many tokens look up is often about as small. The sum is therefore an
   integral of z / (z sqrt(v_s) + eps) over a discrete measure with mass a_j / z_j at the point z_j, and is evaluated by
   Gauss quadrature with three nodes (Golub and Welsch 1969): sum_i f_i / (y_i sqrt(v_s) + eps).

The quadrature is exact for up to three steps without a gradient, where eps is negligible, and where eps is all that
counts. In between its relative error is at most 3e-4 (betas .9 and .95; 6e-3 in the first steps of a run; far less for
larger beta2, and up to 2e-2 where beta2 is as small as beta1).

Cost: every step adds one term to the moments of the measure of each s, until (beta1 / sqrt(beta2))^(j-s) has vanished;
after that only weight decay changes. A step therefore costs the same however long training has run, and the
coefficients are a pure function of the learning rates so far: a resumed run has the same bits.

Raises ConfigError for beta1 > beta2, for which three nodes are too few, and for learning rates at which weight decay
would reach 1.
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

_NEGLIGIBLE = 1e-12
"""Relative size below which a further term is dropped."""
_DEGENERATE = 1e-12
"""Relative spread below which a measure has no further node."""

Floats = NDArray[np.float64]


class LazyDecay:
    """The coefficients of the closed form for every step s, extended at every optimizer step.

    Args:
        beta1: Decay of the first moment.
        beta2: Decay of the second moment; at least beta1.
        weight_decay: The decoupled weight decay wd, which is multiplied by the learning rate.

    Raises:
        ConfigError: beta1 > beta2.

    Example:
        Ten steps at a constant learning rate of 0.01 with weight decay 0.1 multiply the weights of a row without
        moments by (1 - 0.001)^10:

        >>> import math
        >>> decay = LazyDecay(beta1=0.9, beta2=0.95, weight_decay=0.1)
        >>> decay.advance([0.01] * 10)
        >>> decay.coefficients.shape
        (11, 9)
        >>> round(math.exp(decay.coefficients[10, LOG_DECAY]), 6)
        0.990045
    """

    def __init__(self, *, beta1: float, beta2: float, weight_decay: float) -> None:
        if beta1 > beta2:
            raise ConfigError(
                f"beta1 is {beta1:g} and beta2 is {beta2:g}; lazy AdamW needs beta1 <= beta2, because otherwise "
                "a row's pending update has no accurate closed form. Use table_optimizer=dense_adamw, or other betas"
            )
        self._beta1, self._beta2, self._weight_decay = beta1, beta2, weight_decay
        # After this many steps (beta1 / sqrt(beta2))^steps is negligible.
        ratio = beta1 / math.sqrt(beta2) if beta1 > 0.0 else 0.0
        self.window = math.ceil(math.log(_NEGLIGIBLE) / math.log(ratio)) if ratio > 0.0 else 1
        """A step changes at most this many rows of `coefficients`, the last ones."""
        self.num_steps = 0
        self._coefficients = np.zeros((64, NUM_COLUMNS))
        self._coefficients[0, [BETA1_POWER, BETA2_POWER]] = 1.0
        self._first_node, self._moments = np.zeros(64), np.zeros((64, 2 * NUM_NODES))

    @property
    def coefficients(self) -> Floats:
        """Float64 [num_steps + 1, NUM_COLUMNS]: one row per step s.

        Columns: LOG_DECAY is log P_s; BETA1_POWER and BETA2_POWER are beta1^s and beta2^s; FACTORS + i and NODES + i
        are f_i and y_i, so that the sum of step 4, for a row whose weights were last brought up to date at step s, is
        P_n/P_s * sum_i f_i / (y_i sqrt(v_s) + eps), where n is the current step.
        """
        return self._coefficients[: self.num_steps + 1]

    def advance(self, rates: Iterable[float]) -> None:
        """Extend the coefficients by one step per learning rate.

        Raises:
            ConfigError: A learning rate times the weight decay is 1 or more; the steps before it have been taken.
        """
        for rate in rates:
            self._advance_one(rate)

    def check(self, rate: float) -> None:
        """Raise ConfigError if no step can be taken at this learning rate: lr * weight_decay must be below 1."""
        decay = rate * self._weight_decay
        if decay >= 1.0:
            raise ConfigError(
                f"a table's rate times its weight decay is {rate:g} * {self._weight_decay:g} = {decay:g}; lazy AdamW "
                "needs less than 1, for at 1 a step would set the weights to zero. Lower either"
            )

    def _advance_one(self, rate: float) -> None:
        self.check(rate)
        self.num_steps += 1
        n = self.num_steps
        if n >= len(self._coefficients):
            for name in ("_coefficients", "_first_node", "_moments"):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros_like(old)]))
        self._coefficients[n, LOG_DECAY] = self._coefficients[n - 1, LOG_DECAY] + math.log1p(-rate * self._weight_decay)
        self._coefficients[n, BETA1_POWER], self._coefficients[n, BETA2_POWER] = self._beta1**n, self._beta2**n
        since = max(0, n - self.window)
        _add_step(n, since, rate / (1.0 - self._beta1**n), self._coefficients, self._first_node, self._moments)


def _add_step_loop(n: int, since: int, rate: float, coefficients: Floats, first_node: Floats, moments: Floats) -> None:
    """Add step n to the measures of all s >= `since`; `rate` is lr_n / (1 - beta1^n).

    The moments are those of 1 - z / z_first, whose powers are all positive: their sums keep their relative precision.
    """
    correction = 1.0 - coefficients[n, BETA2_POWER]
    for s in range(since, n):
        z = math.sqrt(coefficients[n - s, BETA2_POWER] / correction)
        if s == n - 1:
            first_node[s] = z
        term = (
            rate
            * coefficients[n - s, BETA1_POWER]
            * math.exp(coefficients[s, LOG_DECAY] - coefficients[n, LOG_DECAY])
            / z
        )
        for k in range(2 * NUM_NODES):
            moments[s, k] += term
            term *= 1.0 - z / first_node[s]
        _quadrature(moments[s], coefficients[s, FACTORS:NODES], coefficients[s, NODES:])
        for i in range(NUM_NODES):
            coefficients[s, NODES + i] = first_node[s] * (1.0 - coefficients[s, NODES + i])
            coefficients[s, FACTORS + i] *= coefficients[s, NODES + i]


def _quadrature_loop(moments: Floats, weights: Floats, nodes: Floats) -> None:
    """Put into `weights` and `nodes` the three-node Gauss quadrature of the measure with these moments 0 to 5.

    The nodes are the eigenvalues of the 3 x 3 Jacobi matrix (Golub and Welsch 1969), here about the mean: its diagonal
    is zero, `skew` and `last`, and the squares of its off-diagonal are `spread` and `coupling`. A measure on one or two
    points gets those points, and zero weights for the rest.
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
