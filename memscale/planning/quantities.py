"""What a sweep may hold equal, by its word: the quantities of `matching.equal` and `matching.sparse_equal`."""

from __future__ import annotations

from memscale.config.architecture import Architecture
from memscale.config.matching import PER_TOKEN, SPARSE_EQUAL
from memscale.errors import ConfigError, nearest
from memscale.planning.accounting import TRAINING_PASSES, count
from memscale.planning.training_memory import training_memory
from memscale.planning.weight_bytes import decode_bytes

WORDS = tuple(dict.fromkeys((*PER_TOKEN, *SPARSE_EQUAL)))


def measure(
    name: str, architecture: Architecture, sequence_length: int, flops_per_second: float | None = None
) -> float:
    """Return the quantity `name` of `architecture` trained at `sequence_length` tokens.

    Forward FLOPs per token; parameters; bytes of weights read per decoded token (bfloat16); bytes of training memory
    of one GPU that holds all of it, one sequence at a time; or seconds per trained token at `flops_per_second`
    training FLOPs per second. Raises ConfigError for an unknown word, and for seconds without a throughput.
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
    if name == "training_memory":
        return training_memory(architecture, sequence_length).total
    if name == "seconds_per_token":
        return _seconds_per_token(architecture, sequence_length, flops_per_second)
    raise ConfigError(f"'{name}' is no quantity of a model; valid: {', '.join(WORDS)}.{nearest(name, WORDS)}")


def _seconds_per_token(architecture: Architecture, sequence_length: int, flops_per_second: float | None) -> float:
    if flops_per_second is None:
        family = architecture.family
        raise ConfigError(
            f"seconds_per_token of family '{family}' needs its measured training FLOPs per second, and none are given; "
            f"write them under matching.throughput, one number a family, as in `throughput: {{{family}: 2.0e13}}`"
        )
    flops = count(architecture, sequence_length).flops_per_token_forward
    return TRAINING_PASSES * flops / flops_per_second
