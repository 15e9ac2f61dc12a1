"""A looped model: a few layers applied again and again with the same weights (Geiping et al. 2025, arXiv 2502.05171).

The prelude's layers are applied once, the recurrent layers r times, the coda's layers once. Refuses a depth beyond the
deepest stack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from memscale.config.checks import require
from memscale.config.ranges import Checked, EndLayers, LayerCount, OneOf, Recurrences

INJECTIONS = ("concatenate", "none")
MAX_DEPTH = 4_096
"""No stack is deeper, looped or not."""

Injection = Annotated[str, OneOf(INJECTIONS)]


@dataclass(frozen=True, kw_only=True)
class Loop(Checked):
    """Layers of a looped model, in the order of the stack: prelude, recurrent part, coda.

    Of the published choices these are taken: the recurrence starts from the prelude's output e (s_0 = e) instead of
    from noise, and its number r is fixed instead of drawn for every step, so that a run is deterministic and its FLOPs
    are exact; gradients go through all r recurrences. A recurrence is s_i = R(W [s_(i-1); e]), with R the recurrent
    layers and the coda reading s_r. Blocks are those of every other family (a norm before each sublayer); the published
    model has one after each as well, and one after the recurrence.

    Example:
        >>> loop = Loop(prelude=2, recurrent=4, coda=2, recurrences=4)
        >>> loop.stored_layers, loop.depth
        (8, 20)
    """

    prelude: EndLayers
    """Layers before the recurrent ones, applied once."""
    recurrent: LayerCount
    """Layers that every recurrence applies, with the same weights."""
    coda: EndLayers
    """Layers after the recurrent ones, applied once."""
    recurrences: Recurrences
    """How often the recurrent layers are applied."""
    injection: Injection = "concatenate"
    """What a recurrence starts with. `concatenate`: a learnt projection W, [2 d_model, d_model], of the state beside
    the prelude's output; `none`: the state alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.depth <= MAX_DEPTH,
            f"prelude {self.prelude} + recurrent {self.recurrent} x recurrences {self.recurrences} + coda {self.coda} "
            f"are {self.depth:,} layers that a token passes through; {MAX_DEPTH:,} are the most",
        )

    @property
    def stored_layers(self) -> int:
        """Layers with weights of their own: prelude + recurrent + coda."""
        return self.prelude + self.recurrent + self.coda

    @property
    def depth(self) -> int:
        """Layers that a token passes through: prelude + recurrent x recurrences + coda."""
        return self.prelude + self.recurrent * self.recurrences + self.coda

    @property
    def applied_layers(self) -> tuple[int, ...]:
        """The stored layer of each layer that a token passes through, in order."""
        ends = self.prelude + self.recurrent
        middle = tuple(range(self.prelude, ends)) * self.recurrences
        return (*range(self.prelude), *middle, *range(ends, self.stored_layers))
