"""Compiles the CPU kernels and keeps them on disk, so that workers which start together need not each do it.

`python -m memscale.kernels.compile` after an installation, or `compile_kernels()`; without it the first use compiles.
Numba keeps the result beside the source, or in the user's cache where that folder cannot be written.
"""

from __future__ import annotations

import torch

from memscale.kernels.lookup import lookup
from memscale.kernels.product_keys import select
from memscale.kernels.row_products import row_products


def compile_kernels() -> None:
    """Run every kernel once, forward and backward, on the smallest input: seconds the first time, later under one."""
    halves_2HTN = torch.zeros(2, 1, 1, 2, requires_grad=True)
    table_NV = torch.zeros(4, 1, requires_grad=True)
    slots_THK, scores_THK = select(halves_2HTN, 2, backend="numba")
    out_TV = lookup(table_NV, slots_THK.flatten(1), scores_THK.flatten(1), backend="numba")
    products_TK = row_products(table_NV, slots_THK.flatten(1), out_TV, backend="numba")
    torch.autograd.backward([products_TK.sum()])


if __name__ == "__main__":
    compile_kernels()
