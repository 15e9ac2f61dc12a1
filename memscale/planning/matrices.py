"""Which parameters are matrices of the blocks, that Muon optimises, and what that costs (`memscale.training.muon`).

Muon is for linear maps between hidden vectors. It is not for

1. embedding, language-model head and tables, whose rows are each read alone, so that their scale says how often they
   were read, and equal singular values would undo that;
2. half keys, which are such rows too: a query is compared with each, and no map is applied to a vector; and the cores
   that combine their scores;
3. routers, whose rows score one expert each; a step on all singular directions alike moves the choice of experts by
   directions that carry no gradient but noise;
4. norm gains and biases, which are vectors, and depthwise convolutions, which are one for each value;
5. the injection of a looped model, which is in no block.

These keep AdamW, as Jordan (2024) and Liu et al. (2025) keep it for embeddings, head and vectors. A component that is
not named here keeps AdamW.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from memscale.config.architecture import Architecture

MATRIX_COMPONENTS = frozenset(
    {
        "attention", "ffn", "experts", "shared_experts", "query", "memory_output", "ngram_projections",
        "token_projections",
    }
)  # fmt: skip
"""Components, by the names of `memscale.planning.accounting.components`, whose parameters of two or more dimensions are
matrices."""
NEWTON_SCHULZ_STEPS = 5


def matrix_shapes(architecture: Architecture) -> Mapping[tuple[int, int], int]:
    """Return the shapes (rows, columns) of a model's matrices, with the number of matrices that have each.

    Queries, keys and values are three matrices, gate and up two, and every expert has its own, as has every virtual
    table of a memory with `expansion`.

    Example:
        >>> dense = Architecture(family="dense", d_model=64, num_layers=4, num_heads=4, num_kv_heads=2, head_width=16,
        ...                      ffn_hidden=176, vocab_size=1024)
        >>> dict(matrix_shapes(dense))
        {(64, 64): 8, (32, 64): 8, (176, 64): 8, (64, 176): 4}
    """
    a, d, found = architecture, architecture.d_model, Counter[tuple[int, int]]()
    heads, groups = a.num_heads * a.head_width, a.num_kv_heads * a.head_width
    for rows, columns in ((heads, d), (groups, d), (groups, d), (d, heads)):
        found[rows, columns] += a.num_layers
    _add_feed_forward(found, d, a.ffn_hidden, a.num_dense_layers)
    if a.moe is not None:
        _add_feed_forward(found, d, a.moe.expert_hidden, a.moe.num_experts * len(a.moe.layers))
        _add_feed_forward(found, d, a.moe.shared_experts * a.moe.expert_hidden, len(a.moe.layers))
    for selecting in (a.memory, a.peer):
        if selecting is not None:
            found[selecting.num_heads * selecting.key_width, d] += len(selecting.layers)
    if a.memory is not None and a.memory.gated:
        found[a.memory.value_width, d] += len(a.memory.layers)
    if a.memory is not None and a.memory.num_output_matrices:
        found[d, a.memory.value_width] += a.memory.num_virtual_tables * len(a.memory.layers)
    if a.ngram is not None:
        found[d, a.ngram.memory_width] += 2 * len(a.ngram.layers)
    if a.token_table is not None and a.token_table.use != "values":
        found[a.token_table.row_width, d] += len(a.token_table.layers)
        found[d, a.token_table.row_width] += len(a.token_table.layers)
    return found


def matrix_params(architecture: Architecture) -> int:
    """Return the parameters that are in matrices."""
    return sum(number * rows * columns for (rows, columns), number in matrix_shapes(architecture).items())


def single_moments(architecture: Architecture, matrix_optimizer: str) -> int:
    """Return the parameters of which the optimizer keeps one moment instead of two: with `muon` those in matrices."""
    return matrix_params(architecture) if matrix_optimizer == "muon" else 0


def muon_flops(architecture: Architecture) -> int:
    """Return the FLOPs that Muon adds to an optimizer step; they are no model FLOPs.

    Example:
        Of a 1,024 x 1,024 matrix they are those of training it on 5,120 tokens, 6 x 1,024 x 1,024 each:

        >>> orthogonalisation_flops(1024, 1024) / (6 * 1024 * 1024)
        5120.0
    """
    shapes = matrix_shapes(architecture).items()
    return sum(number * orthogonalisation_flops(rows, columns) for (rows, columns), number in shapes)


def orthogonalisation_flops(rows: int, columns: int) -> int:
    """Return the FLOPs of setting one matrix's singular values to about one, a multiply-add as 2.

    Each of the five steps takes three products: 2 r^2 c, 2 r^3 and 2 r^2 c, with r the smaller side and c the larger.
    """
    small, large = sorted((rows, columns))
    return NEWTON_SCHULZ_STEPS * (4 * small * small * large + 2 * small**3)


def _add_feed_forward(found: Counter[tuple[int, int]], d: int, hidden: int, number: int) -> None:
    if hidden and number:
        found[hidden, d] += 2 * number
        found[d, hidden] += number
