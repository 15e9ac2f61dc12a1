"""The initial weights from a seed: every parameter by a rule, each from a random generator of its own.

A parameter's values depend on the seed and the parameter's name alone: not on the device, nor on what else the model
holds, so models of two families have equal values wherever they have the same part.

1. Matrices are normal with variance 1 / fan-in.
2. Those that write to the residual stream are divided by sqrt(2 L), because 2 L of them add up (Radford et al. 2019).
3. Table rows have variance 1 / width (Berges et al. 2024), in both tables of a PEER layer too: x . u_i then has
   variance one, like a hidden value of a dense layer. Where slots are weighted by their scores instead of a softmax,
   the rows that are summed are divided by k s, with k slots of a head and scores of standard deviation about s: else
   the output would start 20 to 400 times as large. (UltraMem too sets the spread of rows by the variance of scores.)
4. Norm gains are one, biases zero.
5. The cores of Tucker-decomposed scores are uniform between 0 and 1, as in UltraMem's published code.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import nn

from memscale.config.architecture import Architecture
from memscale.models.counts import component

_DRAWN_AT_ONCE = 1 << 24
"""Values; a multiple of sixteen."""
_WRITES_TO_RESIDUAL = (
    "attention.out.weight",
    "slot.down.weight",
    "slot.down",
    "slot.shared.down.weight",
    "slot.out.weight",
    "beside.out.weight",
)

_SUMMED_ROWS = ("slot.table", "beside.table", "output_table")


def initialise(model: nn.Module, architecture: Architecture, seed: int) -> None:
    """Set every parameter of a Transformer of `architecture`; a parameter without a rule is an AssertionError."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            component(name)  # raises for a parameter that belongs to none
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif name.endswith(".bias"):
                parameter.zero_()
            elif name.endswith(".core"):
                uniform = torch.empty(parameter.shape, dtype=torch.float32).uniform_(generator=_generator(seed, name))
                parameter.copy_(uniform)
            else:
                # The last dimension is the fan-in, or the width of an embedding, a key or a row.
                spread = parameter.shape[-1] ** -0.5
                if name.endswith(_WRITES_TO_RESIDUAL):
                    spread /= math.sqrt(2 * architecture.num_layers)
                elif name == "table" or name.endswith(_SUMMED_ROWS):
                    spread /= _weight_scale(architecture)
                _draw(parameter, spread, seed, name)


def _weight_scale(architecture: Architecture) -> float:
    """Return by what summed rows are divided: 1 with a softmax, else the slots of a head times the scores' spread.

    A half score has variance one, for a query value has one and a key's values 1 / W; with qk_norm it has W. A
    Tucker-decomposed score is a product of two.
    """
    part = architecture.memory or architecture.peer
    if part is None or part.weights == "softmax":
        return 1.0
    spread = math.sqrt(part.key_width / 2) if part.qk_norm else 1.0
    return part.knn * spread ** (1 if part.core_rank is None else 2)


def _draw(parameter: torch.Tensor, spread: float, seed: int, name: str) -> None:
    """Fill in normal numbers, a part at a time: a table may be as large as the memory.

    torch draws sixteen at a time, and the last sixteen anew if they are incomplete, so parts of whole sixteens, the
    last of at least one, give what drawing all at once would.
    """
    generator = _generator(seed, name)
    flat = parameter.view(-1)
    start = 0
    while start < len(flat):
        stop = start + _DRAWN_AT_ONCE if len(flat) - start >= _DRAWN_AT_ONCE + 16 else len(flat)
        numbers = torch.empty(stop - start, dtype=torch.float32).normal_(generator=generator)
        flat[start:stop] = numbers.mul_(spread)
        start = stop


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
