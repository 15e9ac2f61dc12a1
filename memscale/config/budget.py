"""Budgets: how long to train, and the dense model that the others are compared with at each.

There are three ways to write them, and a scale may use several at once: explicit budgets, ladders of sizes, and isoFLOP
grids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from memscale.config.checks import require
from memscale.config.names import FolderName
from memscale.config.ranges import (
    BatchTokens,
    Checked,
    Exposures,
    Flops,
    Heads,
    LayerCount,
    OneOf,
    PerParameter,
    Range,
    Seed,
    SequenceLength,
    TokenCount,
    Width,
)

SCALES = ("laptop", "node", "paper")


@dataclass(frozen=True, kw_only=True)
class _Length(Checked):
    """How long a model is trained: exactly one of flops, tokens, tokens_per_parameter and exposures."""

    flops: Flops | None = None
    """Training FLOPs of the dense run: 3 x forward FLOPs per token x tokens."""
    tokens: TokenCount | None = None
    """Training tokens; rounded to whole batches, as every token count is."""
    tokens_per_parameter: PerParameter | None = None
    """Training tokens per non-embedding parameter of the dense model (about 20 in Hoffmann et al. 2022)."""
    exposures: Exposures | None = None
    """Times that each fact is read on average, of the sources whose facts have a known number of tokens: tokens =
    exposures x facts x tokens per fact / the sources' share of the tokens. About 1,000 for 2 bits per parameter, 100
    for 1 (Allen-Zhu and Li 2024)."""
    bits_per_parameter: PerParameter | None = None
    """Bits of facts per non-embedding parameter of the dense model, in place of what the sources say that are sized by
    budget."""

    def __post_init__(self) -> None:
        super().__post_init__()
        lengths = ("flops", "tokens", "tokens_per_parameter", "exposures")
        given = [name for name in lengths if getattr(self, name) is not None]
        require(
            len(given) == 1,
            f"{' and '.join(given) or 'nothing'} given for how long to train; exactly one of {', '.join(lengths)} is "
            "needed",
        )


@dataclass(frozen=True, kw_only=True)
class Budget(_Length):
    """A dense model and how long it is trained."""

    name: FolderName | None = None
    """Part of run names. None: how long is trained and the bits per parameter, followed by the shape where two budgets
    share these or no FLOPs are given."""
    d_model: Width
    num_layers: LayerCount
    num_heads: Heads
    num_kv_heads: Heads | None = None
    """None: as many as heads."""
    ffn_hidden: Width | None = None
    """Hidden width of the dense model; None: 8/3 d_model rounded up to `Scale.ffn_multiple_of`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.d_model % (2 * self.num_heads) == 0,
            f"d_model {self.d_model} does not divide into {self.num_heads} heads of even width",
        )
        if self.num_kv_heads is not None:
            require(
                self.num_heads % self.num_kv_heads == 0,
                f"num_heads ({self.num_heads}) is not a multiple of num_kv_heads ({self.num_kv_heads})",
            )


@dataclass(frozen=True, kw_only=True)
class Shapes(Checked):
    """A rule that derives a dense shape from its width: heads of one width, and depth proportional to width."""

    head_width: Annotated[int, Range(2, 65_536, "no head is wider")]
    width_per_layer: Annotated[float, Range(0.01, 2**20, "no layer is wider")]
    """d_model divided by the number of layers; the number of layers is rounded to the nearest integer."""
    least_layers: LayerCount = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.head_width % 2 == 0, f"head_width is {self.head_width}, but rotary positions turn pairs of values")


@dataclass(frozen=True, kw_only=True)
class Ladder(_Length):
    """Models of several widths, all trained for the same length."""

    shapes: Shapes
    d_models: tuple[Width, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.d_models) > 0, "d_models is empty; name at least one width")
        for width in self.d_models:
            require(
                width % self.shapes.head_width == 0,
                f"d_models names {width}, which does not divide into heads of width {self.shapes.head_width}",
            )


@dataclass(frozen=True, kw_only=True)
class IsoFlop(Checked):
    """At each FLOP budget, several model sizes around the expected optimum, evenly spaced in log parameters.

    The optimum N*, in non-embedding parameters, is either

    1. `optimum_coefficient` x FLOPs^`optimum_exponent`, as a fit gives it, or
    2. sqrt(FLOPs / (6 x `tokens_per_parameter`)), from FLOPs = 6 N D and D = tokens_per_parameter x N (Hoffmann et al.
       2022).
    """

    shapes: Shapes
    flops: tuple[Flops, ...]
    points: Annotated[int, Range(1, 1_001, "neighbours would have one shape")] = 5
    """Model sizes per budget; odd, so that one is the optimum."""
    span: Annotated[float, Range(1, 1e6, "no grid spans more")] = 4.0
    """The largest model has `span` x N* parameters, the smallest N* / `span`."""
    tokens_per_parameter: PerParameter | None = None
    optimum_coefficient: Annotated[float, Range(0, 1e30, "a fit gives it", above_low=True)] | None = None
    optimum_exponent: Annotated[float, Range(0, 2, "sizes grow with compute", above_low=True)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.flops) > 0, "flops is empty; name at least one budget")
        require(len(set(self.flops)) == len(self.flops), f"flops {list(self.flops)} names a budget twice")
        require(self.points % 2 == 1, f"points is {self.points}; an odd number puts one at the optimum")
        require(self.span > 1, f"span is {self.span}; it must be greater than 1")
        fitted = (self.optimum_coefficient, self.optimum_exponent)
        require(
            (self.tokens_per_parameter is None) == all(value is not None for value in fitted)
            and (fitted == (None, None) or None not in fitted),
            "the optimum needs either tokens_per_parameter, or both optimum_coefficient and optimum_exponent",
        )


@dataclass(frozen=True, kw_only=True)
class Scale(Checked):
    """The budgets, seeds and batch for one size of machine."""

    name: Annotated[str, OneOf(SCALES)]
    budgets: tuple[Budget, ...] = ()
    ladders: tuple[Ladder, ...] = ()
    isoflops: tuple[IsoFlop, ...] = ()
    seeds: tuple[Seed, ...]
    """Seeds of the compared runs; tuning runs use `Recipe.tune_seed`."""
    sequence_length: SequenceLength
    batch_tokens: BatchTokens
    """Tokens per optimizer step, on any hardware; with `recipe.batch` a rule chooses them instead."""
    ffn_multiple_of: Width = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            len(self.budgets) + len(self.ladders) + len(self.isoflops) > 0,
            "budgets, ladders and isoflops are all empty; name at least one budget",
        )
        require(len(self.seeds) > 0, "seeds is empty; name at least one")
        require(len(set(self.seeds)) == len(self.seeds), f"seeds {list(self.seeds)} names a seed twice")
        require(
            self.batch_tokens >= self.sequence_length and self.batch_tokens % self.sequence_length == 0,
            f"batch_tokens ({self.batch_tokens}) is not a multiple of sequence_length ({self.sequence_length})",
        )
        names = [budget.name for budget in self.budgets if budget.name is not None]
        require(len(set(names)) == len(names), f"budgets has a name twice: {sorted(names)}")
