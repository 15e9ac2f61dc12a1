"""Bytes of weights that a token makes the machine read, in decoding and in training.

A lookup does about one FLOP per byte it reads, so that memory layers are bound by bandwidth where dense layers of the
same FLOPs are bound by compute: models of equal FLOPs are equal in bytes only by chance. Weights alone are counted.
Activations, gradients and the optimizer's state are not, and the cache of keys and values has a function of its own.
"""

from __future__ import annotations

from memscale.config.architecture import Architecture
from memscale.config.checks import at_least, positive
from memscale.planning.accounting import components

BYTES_PER_WEIGHT = 2
"""bfloat16, in which models are decoded and, under autocast, multiplied in training."""


def decode_bytes(
    architecture: Architecture, sequence_length: int, *, bytes_per_weight: float = BYTES_PER_WEIGHT
) -> float:
    """Return the bytes of weights read to generate one token of a single sequence (batch 1).

    Every dense weight once; the router, the experts_per_token chosen experts and the shared ones; all product keys,
    and the H k selected rows in every memory layer (two a slot in PEER); one row of the embedding, and the whole LM
    head. Buffers (running statistics of the query's batch norm, an expert's bias) are no weights. Raises ConfigError.
    """
    positive("bytes_per_weight", bytes_per_weight)
    return bytes_per_weight * sum(part.decode_weights for part in components(architecture, sequence_length))


def kv_cache_bytes(architecture: Architecture, context: int, *, bytes_per_value: float = BYTES_PER_WEIGHT) -> float:
    """Return the bytes of the keys and values of `context` earlier tokens: what attention reads per generated token
    beside the weights, and what one sequence occupies. The same for every family of one base. Raises ConfigError.
    """
    at_least("context", context, 0)
    positive("bytes_per_value", bytes_per_value)
    a = architecture
    return bytes_per_value * 2 * a.num_layers * a.num_kv_heads * a.head_width * context


def training_bytes(
    architecture: Architecture,
    sequence_length: int,
    batch_tokens: int,
    *,
    bytes_per_weight: float = BYTES_PER_WEIGHT,
) -> float:
    """Return the bytes of weights read per trained token, forward and backward, where `batch_tokens` go through the
    model at once.

    Per batch, dense weights are read twice: to compute outputs, and to compute the gradients of inputs. So are the
    experts that get a token; if token choice spreads its tokens evenly, E (1 - (1 - k / E)**batch_tokens) of E.
    Per token, the selected rows of the table are read twice (the backward pass needs them for the gradients of their
    weights), whether another token has read them or not, and the embedding's row once. Raises ConfigError.
    """
    at_least("batch_tokens", batch_tokens, 1)
    positive("bytes_per_weight", bytes_per_weight)
    per_batch = per_token = 0.0
    for part in components(architecture, sequence_length):
        if part.name == "embedding":
            per_token += part.decode_weights
        elif part.name == "table":
            per_token += 2 * part.decode_weights
        elif part.name == "experts":
            per_batch += 2 * part.params * _share_of_experts(architecture, batch_tokens)
        else:
            per_batch += 2 * part.decode_weights
    return bytes_per_weight * (per_token + per_batch / batch_tokens)


def _share_of_experts(architecture: Architecture, batch_tokens: int) -> float:
    """The experts that at least one of `batch_tokens` tokens is sent to, expected at an even load, over all."""
    moe = architecture.moe
    assert moe is not None
    if moe.routing == "expert_choice":
        return 1.0  # each takes at least one token of every sequence
    return float(1.0 - (1.0 - moe.experts_per_token / moe.num_experts) ** batch_tokens)
