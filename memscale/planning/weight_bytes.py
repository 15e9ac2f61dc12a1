"""Bytes of weights read per token, in decoding and in training.

A table lookup does about one FLOP per byte, so memory layers are bound by memory bandwidth where dense layers of equal
FLOPs are bound by compute; equal FLOPs do not mean equal bytes. Only weights are counted: activations, gradients and
optimizer state are not, and the KV cache has its own function (`kv_cache_bytes`).
"""

from __future__ import annotations

from memscale.config.architecture import Architecture
from memscale.config.checks import at_least, positive
from memscale.planning.accounting import components

BYTES_PER_WEIGHT = 2
"""Bytes of a bfloat16 weight: the format of decoding and, under autocast, of the matrix products of training."""


def decode_bytes(
    architecture: Architecture, sequence_length: int, *, bytes_per_weight: float = BYTES_PER_WEIGHT
) -> float:
    """Return the bytes of weights read to generate one token of one sequence (batch size 1).

    Counted are every dense weight (of recurrent layers in each recurrence: a large model's do not stay in a cache); the
    router, the `experts_per_token` chosen experts and the shared ones; all product keys and the H k selected rows of
    every memory layer (2 H k in PEER); one row of the embedding; and the LM head. Buffers (running statistics of batch
    norm, expert biases) are not weights.

    Raises ConfigError where `bytes_per_weight` is not positive.

    Example:
        >>> from memscale.config.architecture import Architecture
        >>> dense = Architecture(family="dense", d_model=64, num_layers=4, num_heads=4, num_kv_heads=4, head_width=16,
        ...                      ffn_hidden=176, vocab_size=1024)
        >>> decode_bytes(dense, 128)
        533760
    """
    positive("bytes_per_weight", bytes_per_weight)
    return bytes_per_weight * sum(part.decode_weights for part in components(architecture, sequence_length))


def kv_cache_bytes(architecture: Architecture, context: int, *, bytes_per_value: float = BYTES_PER_WEIGHT) -> float:
    """Return the bytes of the KV cache of one sequence with `context` tokens.

    2 x layers x KV heads x head width x context values: what attention reads per generated token in addition to the
    weights. Layers are those that a token passes through: a recurrent layer of a looped model has keys and values of
    its own in each recurrence. Of each layer with convolved queries (`query_conv`) it has the last width - 1 inputs
    too, d_model values each. Raises ConfigError.
    """
    at_least("context", context, 0)
    positive("bytes_per_value", bytes_per_value)
    a = architecture
    values = 2 * a.depth * a.num_kv_heads * a.head_width * context
    convolved: dict[int, int] = {}
    for part in (a.memory, a.peer):
        if part is not None and part.query_conv is not None:
            for layer in part.layers:  # two parts of one layer have the same inputs
                convolved[layer] = max(convolved.get(layer, 0), min(context, part.query_conv - 1))
    return bytes_per_value * (values + sum(convolved.values()) * a.d_model)


def training_bytes(
    architecture: Architecture,
    sequence_length: int,
    batch_tokens: int,
    *,
    bytes_per_weight: float = BYTES_PER_WEIGHT,
) -> float:
    """Return the bytes of weights read per trained token, forward and backward, at `batch_tokens` per pass.

    1. Per batch, dense weights are read twice: for the outputs, and for the gradients of the inputs.
    2. So are the experts that receive a token: E (1 - (1 - k / E)^batch_tokens) of E where the load is uniform.
    3. Per token, the selected table rows are read twice (the gradients of their weights need them), even if another
       token has read them, and the embedding's row once.

    Raises ConfigError where `batch_tokens` or `bytes_per_weight` is not positive.
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
    """Return the expected fraction of experts that receive at least one of `batch_tokens` tokens at uniform load."""
    moe = architecture.moe
    assert moe is not None
    if moe.routing == "expert_choice":
        return 1.0  # each takes at least one token of every sequence
    return float(1.0 - (1.0 - moe.experts_per_token / moe.num_experts) ** batch_tokens)
