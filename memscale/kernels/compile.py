"""Compiles the CPU kernels ahead of time, so that workers that start together need not each do it.

Run `python -m memscale.kernels.compile` after an installation, or call `compile_kernels()`; without it the first use
compiles. Numba caches the result beside the sources, or in the user's cache if that folder cannot be written.
"""

from __future__ import annotations

import torch

from memscale.kernels.embedding_bag import embedding_bag
from memscale.kernels.memory_table import MemoryTable
from memscale.kernels.product_keys import product_key_topk
from memscale.kernels.row_adamw import RowAdamW
from memscale.kernels.row_products import row_products


def compile_kernels() -> None:
    """Run every CPU kernel on the smallest input: forward, backward and two steps of the row optimizer.

    Takes about ten seconds the first time, and less than one later.
    """
    query_T2HW, keys_2HNW = torch.zeros(1, 2, 1, 1, requires_grad=True), torch.zeros(2, 1, 2, 1, requires_grad=True)
    table_NV = MemoryTable(torch.zeros(64, 2))
    optimizer = RowAdamW({"table": table_NV})
    for num_micro_batches in (1, 2):  # few lookups per row, and many
        for _ in range(num_micro_batches):
            slots_THK, scores_THK = product_key_topk(query_T2HW, keys_2HNW, 2)
            out_TV = embedding_bag(table_NV, slots_THK.flatten(1), scores_THK.flatten(1))
            products_TK = row_products(table_NV, slots_THK.flatten(1), out_TV)
            torch.autograd.backward([products_TK.sum()])
        optimizer.squared_norms()
        optimizer.step(0.1)


if __name__ == "__main__":
    compile_kernels()
