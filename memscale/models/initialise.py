"""The initial weights from a seed: every parameter by a rule, each from a random generator of its own.

A parameter's values depend on the seed and the parameter's name alone: not on the device, nor on what else the model
holds, so models of two families have equal values wherever they have the same part.

1. Matrices are normal with variance 1 / fan-in.
2. Those that write to the residual stream are divided by sqrt(2 L), because 2 L of them add up (Radford et al. 2019);
   n-gram memories, token tables and what stands beside a feed-forward layer write to it besides, in a few layers. L is
   the number of layers that a token passes through: a recurrent layer of a looped model counts each time.
3. Half keys are normal with variance 1 / width: the values of a query have variance one, and so has each half's score.
4. Table rows have variance 1 / width (Berges et al. 2024), in both tables of a PEER layer too: x . u_i then has
   variance one, like a hidden value of a dense layer. Where slots are weighted by their scores instead of a softmax,
   the rows that are summed are divided by k s, with k slots of a head and scores of standard deviation about s: else
   the output would start 20 to 400 times as large. (UltraMem too sets the spread of rows by the variance of scores.)
5. Norm gains are one, biases zero, and so is the convolution of an n-gram memory, which adds to what is there without
   it.
6. The cores of Tucker-decomposed scores are uniform between 0 and 1, as in UltraMem's published code; the convolution
   of a query's inputs is normal with variance 1 / width.
7. The experts that hash routing gives a token id are no weights, but drawn in the same way.

That is `scaled`. `published` is what the code of Berges et al. (2024) does (lingua's `reset_parameters`), by the parts
that it has; w_k is the width of a whole key, d the model's:

1. Attention, feed-forward layers, embedding and head: normal, cut at three standard deviations, of variance 1 / fan-in
   (of attention's output 1 / d), and nothing is divided by sqrt(2 L).
2. Half keys are uniform between -w_k^-.5 and w_k^-.5, the query's matrix between -+ sqrt(6 / (fan-in + fan-out))
   (Glorot and Bengio 2010), and the gate and the output of Memory+ normal with variance 1 / d. A half's score then has
   a standard deviation of sqrt(d / (3 (d + H w_k))) for H heads: a third of that of `scaled` where H w_k = 2 d.
3. Table rows as above.

Experts are as the feed-forward layers, and routers, and what is UltraMem's (cores, convolutions), as with `scaled`:
that code has neither. Its gate and output also have biases, which are not here under any choice: they are parameters,
and the totals that the paper prints are without.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable

import torch
from torch import nn

from memscale.config.architecture import Architecture
from memscale.config.checks import one_of
from memscale.config.layers import Memory, Peer
from memscale.config.optimizer import INITS
from memscale.models.counts import component
from memscale.models.moe import MoEFeedForward

_DRAWN_AT_ONCE = 1 << 24
"""Values; a multiple of sixteen."""
_WRITES_TO_RESIDUAL = (
    "attention.out.weight",
    "slot.down.weight",
    "slot.down",
    "slot.shared.down.weight",
    "slot.out.weight",
    "slot.token_down.weight",
    "token_table.out.weight",
    "ngram.key_value.weight",
    "beside.out.weight",
)

_CUT = 3.0
"""Standard deviations at which `published` cuts its normal numbers."""


def initialise(model: nn.Module, architecture: Architecture, seed: int, init: str = "scaled") -> None:
    """Set every parameter of a Transformer of `architecture`; a parameter without a rule is an AssertionError.

    Raises:
        ConfigError: `init` is no rule.
    """
    one_of("init", init, INITS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            part = component(name)  # raises for a parameter that belongs to none
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif name.endswith((".bias", "ngram.conv")):
                parameter.zero_()
            elif name.endswith(".core"):
                _draw(parameter, _uniform_to_one, seed, name)
            elif init == "published":
                _draw_published(parameter, name, part, architecture, seed)
            else:
                # The last dimension is the fan-in, or the width of an embedding, a key or a row.
                spread = parameter.shape[-1] ** -0.5
                if name.endswith(_WRITES_TO_RESIDUAL):
                    spread /= math.sqrt(2 * architecture.depth)
                _draw(parameter, _normal(spread / _weight_scale(name, architecture)), seed, name)
        for name, module in model.named_modules():
            if isinstance(module, MoEFeedForward):
                module.reset_experts(_generator(seed, f"{name}.experts"))


def _weight_scale(name: str, architecture: Architecture) -> float:
    """Return by what a parameter's values are divided: 1, but for rows that are summed with weights of no softmax.

    There it is the slots of a head times the scores' spread. A half score has variance one, for a query value has one
    and a key's values 1 / W; with qk_norm it has W. A Tucker-decomposed score is a product of two.
    """
    part = _summed(name, architecture)
    if part is None or part.weights == "softmax":
        return 1.0
    spread = math.sqrt(part.key_width / 2) if part.qk_norm else 1.0
    return part.knn * spread ** (1 if part.core_rank is None else 2)


def _summed(name: str, a: Architecture) -> Memory | Peer | None:
    """Return the part that sums rows of the table called `name`; None where it is no such table."""
    if name == "table":
        return a.memory
    found = re.fullmatch(r"blocks\.(\d+)\.(slot|beside)\.(table|output_table)", name)
    if found is None:
        return None
    layer = int(found[1])
    kind = a.feed_forward_kind(layer) if found[2] == "slot" else a.beside_kind(layer)
    return {"memory": a.memory, "peer": a.peer}.get(kind or "")


def _generator(seed: int, name: str) -> torch.Generator:
    """Return the random generator of what is called `name`."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def _draw_published(parameter: torch.Tensor, name: str, part: str, a: Architecture, seed: int) -> None:
    """Fill in what the code of Berges et al. (2024) does; the last dimension is the fan-in of a matrix."""
    fan_in = parameter.shape[-1]
    if part == "key_scoring":
        draw = _uniform((2 * fan_in) ** -0.5)  # of a whole key, two halves wide
    elif part == "query":
        draw = _uniform(math.sqrt(6 / sum(parameter.shape)))
    elif part in ("table", "router", "query_conv"):
        draw = _normal(fan_in**-0.5 / _weight_scale(name, a))
    elif part == "memory_output":
        draw = _normal(a.d_model**-0.5)
    else:
        draw = _cut_normal((a.d_model if name.endswith("attention.out.weight") else fan_in) ** -0.5)
    _draw(parameter, draw, seed, name)


_Fill = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
"""Fills a tensor with random numbers, and returns it."""


def _normal(spread: float) -> _Fill:
    return lambda numbers, generator: numbers.normal_(generator=generator).mul_(spread)


def _uniform(bound: float) -> _Fill:
    return lambda numbers, generator: numbers.uniform_(-bound, bound, generator=generator)


def _uniform_to_one(numbers: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return numbers.uniform_(generator=generator)


def _cut_normal(spread: float) -> _Fill:
    """Normal numbers, none beyond _CUT standard deviations, by the inverse of their distribution function.

    As torch.nn.init.trunc_normal_, `spread` is the standard deviation before the cut; .986 of it is left.
    """
    most = math.erf(_CUT / math.sqrt(2.0))
    return lambda numbers, generator: (
        numbers.uniform_(-most, most, generator=generator).erfinv_().mul_(spread * math.sqrt(2.0))
    )


def _draw(parameter: torch.Tensor, fill: _Fill, seed: int, name: str) -> None:
    """Fill in random numbers, a part at a time: a table may be as large as the memory.

    torch draws sixteen normal numbers at a time, and the last sixteen anew if they are incomplete, so parts of whole
    sixteens, the last of at least one, give what drawing all at once would.
    """
    generator = _generator(seed, name)
    flat = parameter.view(-1)
    start = 0
    while start < len(flat):
        stop = start + _DRAWN_AT_ONCE if len(flat) - start >= _DRAWN_AT_ONCE + 16 else len(flat)
        flat[start:stop] = fill(torch.empty(stop - start, dtype=torch.float32), generator)
        start = stop
