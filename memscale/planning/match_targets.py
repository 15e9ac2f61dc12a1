"""The dense model's values that the other models of a budget must match, and their mismatch against it.

Refuses a dense family with a hidden width of its own that misses the tolerance, `seconds_per_token` without a measured
speed of each family, and a cache of keys and values that misses the tolerance, for no width changes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from memscale.config.architecture import Architecture
from memscale.config.family import DenseFamily, Family, MixtureFamily
from memscale.config.matching import Matching
from memscale.errors import ConfigError, PlanError
from memscale.planning.candidates import Bound
from memscale.planning.cost_model import CostModel, Ints, quantities
from memscale.planning.free_widths import free_widths
from memscale.planning.mixtures import with_sizes
from memscale.planning.refusals import infeasible, signed
from memscale.planning.widths import Template, template


@dataclass(frozen=True, kw_only=True)
class Matched:
    """A model whose widths are all solved."""

    architecture: Architecture
    mismatch: tuple[tuple[str, float], ...]
    """(criterion, relative mismatch against the dense model) for each of `Matching.equal_per_token`."""


class MatchTargets:
    """The values that all models of one budget must match, and the tolerance."""

    def __init__(
        self, dense: Architecture, families: Mapping[str, Family], matching: Matching, sequence_length: int
    ) -> None:
        """Measure the dense model in every quantity that matters. Raises ConfigError."""
        self.matching = matching
        self.criteria = matching.equal_per_token
        names = (*self.criteria, *([] if matching.sparse_equal is None else [matching.sparse_equal]), "total_params")
        self.names = tuple(dict.fromkeys(names))
        self.shared = self.names.index(matching.sparse_equal or "total_params")
        """Row of the quantity that the sparse models share."""
        self.total = self.names.index("total_params")
        self.size_is_equal = bool({"total_params", "non_embedding_params", "training_memory"} & set(self.criteria))
        self._architecture = dense
        self._sequence_length = sequence_length
        self._throughput = {one.name: one.flops_per_second for one in matching.throughput}
        dense_names = [one.name for one in families.values() if isinstance(one, DenseFamily)]
        dense_name = next((name for name in dense_names if name in self._throughput), "dense")
        values = quantities(self.names, dense, sequence_length, self._speed(dense_name))
        self.dense_values = values[: len(self.criteria)]
        self.dense_total = values[self.total]

    def cost_model(self, one: Template) -> CostModel:
        """Return the costs of one family in every quantity that matters. Raises PlanError."""
        self._require_cache(one)
        return CostModel(one, self.names, self._sequence_length, self._speed(one.family.name))

    def template(self, label: str, family: Family, before: Architecture | None = None) -> Template:
        """Return the open widths of a sparse family, a mixture's first part sized by its share.

        Args:
            label: Of the series.
            family: The family.
            before: A mixture's model as it was matched before, from which its share is taken anew.

        Raises:
            ConfigError: The widths contradict each other.
            PlanError: Its layers are outside the stack.

        """
        if isinstance(family, MixtureFamily):

            def rotated(other: MixtureFamily) -> CostModel:
                return self.cost_model(template(label, other, self._architecture, self.matching))

            over = self.matching.total_over_dense
            family = with_sizes(
                family,
                least_total=None if over is None else over * self.dense_total,
                before=before,
                sequence_length=self._sequence_length,
                rotated=rotated,
                dense=self.dense_values,
                tolerance=self.matching.tolerance,
            )
        return template(label, family, self._architecture, self.matching)

    def _require_cache(self, one: Template) -> None:
        """Raise PlanError where `matching.equal` names kv_cache_bytes and the cache of `one` misses the tolerance."""
        if "kv_cache_bytes" not in self.criteria:
            return
        least = (0 if width is None else width.least for width in (one.outer, one.inner))
        built, dense = one.build(*least), self._architecture
        mismatch = built.depth * built.num_kv_heads / (dense.depth * dense.num_kv_heads) - 1
        if abs(mismatch) > self.matching.tolerance:
            heads = "; leave num_kv_heads null" if getattr(one.family, "num_kv_heads", None) is not None else ""
            raise PlanError(
                f"{one.series}: its cache of keys and values is {signed(mismatch)} off the dense model's, which "
                f"matching.equal holds equal (kv_cache_bytes), and no width changes it: {built.depth} layers with "
                f"{built.num_kv_heads} key/value heads against {dense.depth} with {dense.num_kv_heads}. Leave one of "
                f"prelude, recurrent and coda of families.{one.family.name} null, so that it is as deep as the dense "
                f"model{heads}; or take kv_cache_bytes out of matching.equal"
            )

    def dense(self, label: str, family: Family) -> Matched:
        """Return the dense model, with the hidden width that `family` gives, if any. Raises PlanError."""
        free_widths(family, self.matching)
        architecture = self._architecture
        if family.ffn_hidden is not None:
            architecture = replace(architecture, ffn_hidden=family.ffn_hidden)
        counted = quantities(self.names, architecture, self._sequence_length, self._speed(family.name))
        mismatches = self.mismatch(counted)
        for criterion, mismatch in mismatches:
            if abs(mismatch) > self.matching.tolerance:
                raise PlanError(
                    f"{label}: ffn_hidden {family.ffn_hidden} is {signed(mismatch)} off the budget's dense model "
                    f"(ffn_hidden {self._architecture.ffn_hidden}) in {criterion}, which matching.equal holds equal. "
                    f"Leave families.{family.name}.ffn_hidden out, or take {criterion} out of matching.equal"
                )
        return Matched(architecture=architecture, mismatch=mismatches)

    def mismatch(self, values: Sequence[float]) -> tuple[tuple[str, float], ...]:
        """Return (criterion, value / dense model's value - 1) for every criterion."""
        return tuple(
            (name, value / wanted - 1)
            for name, value, wanted in zip(self.criteria, values, self.dense_values, strict=False)
        )

    def infeasible(self, model: CostModel, bounds: Sequence[Bound], fixed: Ints | None) -> PlanError:
        """Return the error for a model without a candidate within the tolerance, with the reason."""
        return infeasible(model, self.criteria, self.dense_values, bounds, self.matching, fixed)

    def _speed(self, name: str) -> float | None:
        if "seconds_per_token" not in self.criteria:
            return None
        if name not in self._throughput:
            raise ConfigError(
                f"matching.equal names seconds_per_token, which needs matching.throughput.{name}: the measured "
                f"training FLOPs per second of {name}; given are: {', '.join(self._throughput) or 'none'}"
            )
        return self._throughput[name]
