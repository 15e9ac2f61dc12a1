"""What the models of one budget have in common, which widths are free to achieve it, and the tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from memscale.config.checks import require
from memscale.config.ranges import Checked, OneOf, Range, Width

PER_TOKEN = ("flops_per_token", "active_params", "total_params", "non_embedding_params", "decode_bytes",
             "kv_cache_bytes", "training_memory", "seconds_per_token")  # fmt: skip
"""Quantities that another model can have in common with the dense model."""
NOT_BY_WIDTH = ("kv_cache_bytes",)
"""Those of PER_TOKEN that no width of `WIDTHS` changes."""
EQUAL = (*PER_TOKEN, "tokens", "flops_train", "seconds_train")
"""PER_TOKEN, and one of the three that fix how long a model is trained: for as many tokens, training FLOPs or seconds
as the dense model."""
SPARSE_EQUAL = ("total_params", "active_params", "non_embedding_params", "table_params", "decode_bytes",
                "training_memory")  # fmt: skip
WIDTHS = (
    "ffn_hidden", "num_experts", "expert_hidden", "num_slots", "value_width", "key_width", "rows_per_head", "row_width",
)  # fmt: skip
_LENGTHS = ("tokens", "flops_train", "seconds_train")


@dataclass(frozen=True, kw_only=True)
class Free(Checked):
    """The widths of one family that the solver chooses; in YAML `family: widths`."""

    name: str
    widths: tuple[Annotated[str, OneOf(WIDTHS)], ...]


@dataclass(frozen=True, kw_only=True)
class MultipleOf(Checked):
    """A solved width is a multiple of `value`; in YAML `width: number`. For num_slots it applies to the square root."""

    width: Annotated[str, OneOf(WIDTHS)]
    value: Width


@dataclass(frozen=True, kw_only=True)
class Throughput(Checked):
    """Measured training FLOPs per second of one family; in YAML `family: number`."""

    name: str
    flops_per_second: Annotated[float, Range(0, 1e24, "no machine has more", above_low=True)]


@dataclass(frozen=True, kw_only=True)
class Matching(Checked):
    """The terms of the comparison (`memscale.planning.matching` solves them)."""

    equal: tuple[Annotated[str, OneOf(EQUAL)], ...] = ("flops_per_token", "tokens")
    """Quantities that every model has in common with the dense model of its budget."""
    sparse_equal: Annotated[str, OneOf(SPARSE_EQUAL)] | None = "total_params"
    """The quantity that the sparse models of a budget have in common; None: none."""
    free: tuple[Free, ...] = ()
    """Free widths by family; default: `free_by_default` of the family. A width that its family gives is never free."""
    multiple_of: tuple[MultipleOf, ...] = ()
    tolerance: Annotated[float, Range(1e-6, 0.5, "models that differ by half are not compared")] = 0.01
    """Largest relative mismatch; a plan that exceeds it is refused."""
    total_over_dense: Annotated[float, Range(1, 1e9, "no table is so much larger")] | None = 9.0
    """Smallest ratio of the sparse models' total parameters to the dense model's; the solver stays within 10 % above
    it. Not used where a family's own widths fix the size."""
    throughput: tuple[Throughput, ...] = ()
    """Needed for `seconds_per_token` and `seconds_train`; given here because a plan must not depend on the machine."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(set(self.equal)) == len(self.equal), f"equal {list(self.equal)} names something twice")
        lengths = [name for name in self.equal if name in _LENGTHS]
        require(
            len(lengths) == 1,
            f"equal {list(self.equal)} must hold exactly one of {', '.join(_LENGTHS)}: it decides how long is trained",
        )
        if self.total_over_dense is not None:
            require(
                self.total_over_dense > 1, f"total_over_dense is {self.total_over_dense}; it must be greater than 1"
            )

    @property
    def equal_per_token(self) -> tuple[str, ...]:
        """The quantities of `equal` that concern one token or one model."""
        return tuple(name for name in self.equal if name in PER_TOKEN)

    @property
    def equal_by_width(self) -> tuple[str, ...]:
        """Those of `equal_per_token` that a width can change, and so determine one."""
        return tuple(name for name in self.equal_per_token if name not in NOT_BY_WIDTH)

    @property
    def equal_length(self) -> str:
        """The quantity of `equal` that fixes the number of tokens: 'tokens', 'flops_train' or 'seconds_train'."""
        (name,) = (name for name in self.equal if name in _LENGTHS)
        return name
