"""The quantities that a sweep may hold equal (`matching.equal`, `matching.sparse_equal`), by name."""

from __future__ import annotations

from memscale.config.architecture import Architecture
from memscale.config.matching import PER_TOKEN, SPARSE_EQUAL
from memscale.errors import ConfigError, nearest
from memscale.planning.accounting import TRAINING_PASSES, count
from memscale.planning.training_memory import training_memory
from memscale.planning.weight_bytes import decode_bytes, kv_cache_bytes

WORDS = tuple(dict.fromkeys((*PER_TOKEN, *SPARSE_EQUAL)))


def measure(
    name: str, architecture: Architecture, sequence_length: int, flops_per_second: float | None = None
) -> float:
    """Measure one quantity of a model.

    Args:
        name: `flops_per_token` (forward FLOPs), `active_params`, `total_params`, `non_embedding_params`,
            `table_params`, `decode_bytes` (bytes of bfloat16 weights read per decoded token), `kv_cache_bytes` (of
            bfloat16 keys and values at `sequence_length`), `training_memory` (bytes of one GPU with one sequence at a
            time) or `seconds_per_token` (of training).
        architecture: The model.
        sequence_length: Tokens per training sequence.
        flops_per_second: Measured training throughput, for `seconds_per_token` only.

    Raises:
        ConfigError: The name is unknown, or `seconds_per_token` has no throughput.

    Example:
        >>> dense = Architecture(family="dense", d_model=64, num_layers=4, num_heads=4, num_kv_heads=4, head_width=16,
        ...                      ffn_hidden=176, vocab_size=1024)
        >>> measure("flops_per_token", dense, 128), measure("decode_bytes", dense, 128)
        (598528.0, 533760)
    """
    if name == "flops_per_token":
        return count(architecture, sequence_length).flops_per_token_forward
    if name == "active_params":
        return count(architecture, sequence_length).params_active
    if name == "total_params":
        return count(architecture, sequence_length).params_total
    if name == "non_embedding_params":
        return count(architecture, sequence_length).params_non_embedding
    if name == "table_params":
        return count(architecture, sequence_length).params_table
    if name == "decode_bytes":
        return decode_bytes(architecture, sequence_length)
    if name == "kv_cache_bytes":
        return kv_cache_bytes(architecture, sequence_length)
    if name == "training_memory":
        return training_memory(architecture, sequence_length).total
    if name == "seconds_per_token":
        return _seconds_per_token(architecture, sequence_length, flops_per_second)
    raise ConfigError(f"'{name}' is not a quantity of a model; valid: {', '.join(WORDS)}.{nearest(name, WORDS)}")


def _seconds_per_token(architecture: Architecture, sequence_length: int, flops_per_second: float | None) -> float:
    if flops_per_second is None:
        family = architecture.family
        raise ConfigError(
            f"seconds_per_token of family '{family}' needs its measured training FLOPs per second, and none are given; "
            f"write them under matching.throughput, one number a family, as in `throughput: {{{family}: 2.0e13}}`"
        )
    flops = count(architecture, sequence_length).flops_per_token_forward
    return TRAINING_PASSES * flops / flops_per_second
