"""A law bound to the columns of a table: predictions and sums of derivatives for many replicates at once.

Decides how a law is evaluated. A law whose form is the log of a sum of terms affine in the parameters (Chinchilla and
all sums of powers) is found by running the form once, and is evaluated by matrix products with a design that does not
depend on the parameters; every other law goes through its jets. Both are exact; tests hold them against each other.

Shapes: B replicates, N runs, K terms, P parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from analysis.laws.autodiff import Jet
from analysis.laws.law import Law, Symbols

FloatArray = npt.NDArray[np.float64]


class Point(ABC):
    """The law at B sets of parameters: its predictions, and weighted sums of its derivatives over the runs."""

    value: FloatArray
    """[B, N]"""

    @abstractmethod
    def sums(self, slope_BN: FloatArray, bends_BN: tuple[FloatArray, ...]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Weighted sums over the runs.

        sum_n slope g_n as [B, P], sum_n slope H_n as [B, P, P], and for each bend sum_n bend g_n g_n' as
        [len(bends), B, P, P].
        """

    @abstractmethod
    def gradients(self) -> FloatArray:
        """The gradients g as [B, N, P]."""


class Model:
    """A law on the columns of one table, on the loss or on its logarithm."""

    def __init__(self, law: Law, columns: Mapping[str, FloatArray], *, log: bool) -> None:
        self.law = law
        self.log = log
        self.inputs: Symbols = law.inputs(columns)
        self.num_points = len(np.asarray(columns[law.columns[0].name]))
        self.lower, self.upper = law.lower, law.upper
        self.design = self._trace()

    def at(self, theta_BP: FloatArray) -> Point:
        """Predictions and derivatives."""
        if self.design is not None:
            return _Powers(self.design, theta_BP, self.log)
        return _Jets(self._jet(theta_BP, derivatives=True), theta_BP.shape, self.num_points)

    def predict(self, theta_BP: FloatArray) -> FloatArray:
        """Predictions alone, [B, N]."""
        if self.design is not None:
            return self.design.predict(theta_BP, self.log)
        value = self._jet(theta_BP, derivatives=False).value
        return np.broadcast_to(value, (len(theta_BP), self.num_points))

    def _jet(self, theta_BP: FloatArray, *, derivatives: bool) -> Jet:
        jet = self.law.evaluate(theta_BP, self.inputs, derivatives=derivatives)
        if self.log == (self.law.gives == "log"):
            return jet
        return jet.log() if self.log else jet.exp()

    def _trace(self) -> Design | None:
        if self.law.gives != "log":
            return None
        num_params = len(self.law.parameters)
        with np.errstate(all="ignore"):  # Zero need not be a value the law can take: only its shape matters here.
            jet = self.law.evaluate(np.zeros((1, num_params)), self.inputs, derivatives=True)
        terms = jet.terms or ((jet,) if jet.affine else ())
        return Design(terms, self.num_points, num_params) if terms else None


class Design:
    """ln of a sum of exponentials of K affine terms: constants [K, N] and, per term, the columns of its parameters."""

    def __init__(self, terms: tuple[Jet, ...], num_points: int, num_params: int) -> None:
        self.num_terms, self.num_points, self.num_params = len(terms), num_points, num_params
        self.indices = [np.array(sorted(term.first), dtype=np.intp) for term in terms]
        self.columns = [
            np.stack([np.broadcast_to(term.first[i], (1, num_points))[0] for i in sorted(term.first)], axis=1)
            if term.first
            else np.zeros((num_points, 0))
            for term in terms
        ]
        self.constants = [np.ascontiguousarray(np.broadcast_to(term.value, (1, num_points))) for term in terms]
        self.is_constant = [not np.any(constant) for constant in self.constants]
        pairs = [(k, m) for k in range(self.num_terms) for m in range(k, self.num_terms)]
        # Products of the columns of terms k and m, per run: a weighted sum over runs is one matrix product.
        self.products = {
            (k, m): (self.columns[k][:, :, None] * self.columns[m][:, None, :]).reshape(num_points, -1)
            for k, m in pairs
        }
        # positions of those sums in a flat [P * P] matrix; [m, k] is the transpose, in the order of [k, m].
        self.places = {}
        for k, m in pairs:
            rows, columns = self.indices[k][:, None], self.indices[m][None, :]
            self.places[k, m] = (rows * num_params + columns).reshape(-1)
            self.places[m, k] = (columns * num_params + rows).reshape(-1) if m != k else self.places[k, m]

    def exponents(self, theta_BP: FloatArray) -> list[FloatArray]:
        """Each term as [B, N]."""
        found = []
        for k, indices in enumerate(self.indices):
            term = theta_BP[:, indices] @ self.columns[k].T
            found.append(term if self.is_constant[k] else term + self.constants[k])
        return found

    def predict(self, theta_BP: FloatArray, log: bool) -> FloatArray:
        """The sum of the terms, or its logarithm, [B, N]."""
        terms = self.exponents(theta_BP)
        if len(terms) == 1:
            return terms[0] if log else np.exp(terms[0])
        top, total = _exponentials(terms)
        return top + np.log(total) if log else total * np.exp(top)


def _exponentials(terms: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Turn the terms into their exponentials over the largest of them, in place; return that and their sum."""
    top = terms[0]
    for term in terms[1:]:
        top = np.maximum(top, term)
    for term in terms:
        np.subtract(term, top, out=term)
        np.exp(term, out=term)
    total = terms[0].copy()
    for term in terms[1:]:
        total += term
    return top, total


class _Powers(Point):
    """A sum of powers, with shares p_k of the terms and a_k their columns.

    On the log, g = sum p_k a_k and H = sum p_k a_k a_k' - g g'; on the loss e_k in the place of p_k, and no second
    term.
    """

    def __init__(self, design: Design, theta_BP: FloatArray, log: bool) -> None:
        self.design, self.log = design, log
        terms = design.exponents(theta_BP)
        if len(terms) == 1:
            line = terms[0]
            self.value = line if log else np.exp(line)
            self.shares = [np.ones_like(line) if log else self.value]
            return
        top, total = _exponentials(terms)
        if log:
            self.value = top + np.log(total)
            np.reciprocal(total, out=total)
        else:
            scale = np.exp(top)
            self.value = total * scale
            total = scale
        for term in terms:
            term *= total
        self.shares = terms

    def sums(self, slope_BN: FloatArray, bends_BN: tuple[FloatArray, ...]) -> tuple[FloatArray, FloatArray, FloatArray]:
        design = self.design
        num, size = len(self.value), design.num_params
        gradient_BP = np.zeros((num, size))
        own = np.zeros((num, size * size))
        weights = (slope_BN, *bends_BN) if self.log else bends_BN
        outer = np.zeros((len(weights), num, size * size))
        for k, share_k in enumerate(self.shares):
            sloped = slope_BN * share_k
            gradient_BP[:, design.indices[k]] += sloped @ design.columns[k]
            own[:, design.places[k, k]] += sloped @ design.products[k, k]
            for which, weight in enumerate(weights):
                weighted = sloped if weight is slope_BN else weight * share_k
                for m in range(k, design.num_terms):
                    sums = (weighted * self.shares[m]) @ design.products[k, m]
                    outer[which][:, design.places[k, m]] += sums
                    if m != k:
                        outer[which][:, design.places[m, k]] += sums
        if self.log:
            own -= outer[0]
            outer = outer[1:]
        return gradient_BP, own.reshape(num, size, size), outer.reshape(-1, num, size, size)

    def gradients(self) -> FloatArray:
        design = self.design
        found = np.zeros((*self.value.shape, design.num_params))
        for rows, columns, share in zip(design.indices, design.columns, self.shares, strict=True):
            found[:, :, rows] += share[:, :, None] * columns
        return found


class _Jets(Point):
    def __init__(self, jet: Jet, shape: tuple[int, ...], num_points: int) -> None:
        self.shape = (shape[0], num_points)
        self.num_params = shape[1]
        self.jet = jet
        self.value = np.broadcast_to(jet.value, self.shape)

    def sums(self, slope_BN: FloatArray, bends_BN: tuple[FloatArray, ...]) -> tuple[FloatArray, FloatArray, FloatArray]:
        num = self.shape[0]
        gradient_BP = np.zeros((num, self.num_params))
        own_BPP = np.zeros((num, self.num_params, self.num_params))
        outer = np.zeros((len(bends_BN), num, self.num_params, self.num_params))
        indices = sorted(self.jet.first)
        first = {i: np.broadcast_to(self.jet.first[i], self.shape) for i in indices}
        for at, i in enumerate(indices):
            gradient_BP[:, i] = np.einsum("bn,bn->b", slope_BN, first[i])
            for which, bend_BN in enumerate(bends_BN):
                bent = bend_BN * first[i]
                for j in indices[at:]:
                    outer[which, :, i, j] = outer[which, :, j, i] = np.einsum("bn,bn->b", bent, first[j])
        for (i, j), h in self.jet.second.items():
            own_BPP[:, i, j] = own_BPP[:, j, i] = np.einsum("bn,bn->b", slope_BN, np.broadcast_to(h, self.shape))
        return gradient_BP, own_BPP, outer

    def gradients(self) -> FloatArray:
        found = np.zeros((*self.shape, self.num_params))
        for i, g in self.jet.first.items():
            found[:, :, i] = g
        return found
