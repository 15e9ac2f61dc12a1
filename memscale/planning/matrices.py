"""Which parameters are matrices of the blocks, that Muon optimises, and how many there are (`memscale.training.muon`).

Muon is for linear maps between hidden vectors. It is not for

1. embedding, language-model head and tables, whose rows are each read alone, so that their scale says how often they
   were read, and equal singular values would undo that;
2. half keys, which are such rows too: a query is compared with each, and no map is applied to a vector;
3. routers, whose rows score one expert each; a step on all singular directions alike moves the choice of experts by
   directions that carry no gradient but noise;
4. norm gains and biases, which are vectors.

These keep AdamW, as Jordan (2024) and Liu et al. (2025) keep it for embeddings, head and vectors. A component that is
not named here keeps AdamW.
"""

from __future__ import annotations

from memscale.config.architecture import Architecture
from memscale.planning.accounting import components

MATRIX_COMPONENTS = frozenset({"attention", "ffn", "experts", "shared_experts", "query", "memory_output"})
"""Components, by the names of `memscale.planning.accounting.components`, whose parameters of two or more dimensions are
matrices."""


def matrix_params(architecture: Architecture) -> int:
    """Return the parameters that are in matrices: those of `MATRIX_COMPONENTS` without the vectors of queries.

    Example:
        >>> dense = Architecture(family="dense", d_model=64, num_layers=4, num_heads=4, num_kv_heads=4, head_width=16,
        ...                      ffn_hidden=176, vocab_size=1024)
        >>> matrix_params(dense)
        200704
    """
    held = sum(part.params for part in components(architecture, 1) if part.name in MATRIX_COMPONENTS)
    return held - _query_vectors(architecture)


def _query_vectors(a: Architecture) -> int:
    """Return the biases of queries, and the gains and biases of their normalisation."""
    part = a.memory or a.peer
    if part is None:
        return 0
    vectors = 1 if part.query_norm == "none" else 3
    return vectors * part.num_heads * part.key_width * len(part.layers)
