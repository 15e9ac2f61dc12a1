"""One training step of a memory lookup as different libraries do it, behind one interface.

Every step is built from the table [N, V] it trains, and computes the same forward pass, gradient of the weights and
gradient of the table; the form of the table's gradient and the optimizer differ:

| name | gradient of the table | optimizer |
|---|---|---|
| `ours` | factored: slots, weights, token gradients | exact lazy AdamW |
| `torch_dense` | a dense tensor | torch.optim.AdamW with its defaults |
| `torch_dense_fused` | a dense tensor | torch.optim.AdamW(fused=True) |
| `torch_sparse` | a sparse tensor | torch.optim.SparseAdam: no decay, and rows without a gradient do not move |
| `fbgemm` | none: rows are updated in the backward pass | row-wise Adagrad; its CPU build has no Adam |

So only the first three compute the same. If torch has no gradient of a bag's weights for a type (bfloat16 on GPUs, with
torch 2.11), its steps omit it, and do less than `ours`: `weights_have_gradient`.

Shape suffixes: T tokens, K slots per token, V width of a row, N slots.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import time
import tracemalloc
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd import profiler

from memscale.kernels.embedding_bag import embedding_bag
from memscale.kernels.memory_table import MemoryTable
from memscale.kernels.row_adamw import RowAdamW

RATE, BETAS, EPS, WEIGHT_DECAY = 1e-3, (0.9, 0.95), 1e-8, 0.1


class Step(Protocol):
    """A table with its optimizer. The backward pass is autograd's, of what `forward` returned."""

    num_tables: int
    """Memory at the most, in sizes of the table."""
    num_reads: int
    """And, beside them, in sizes of one row per read."""

    def __init__(self, table_NV: Tensor) -> None: ...

    def forward(self, slots_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """Return the weighted sums [T, V]."""

    def update(self) -> None:
        """Take the optimizer's step, and clear the gradient."""

    def table(self) -> Tensor:
        """Return the current rows [N, V]."""


class Ours:
    """memscale's table with its row optimizer."""

    num_tables, num_reads = 3, 0

    def __init__(self, table_NV: Tensor) -> None:
        self._table = MemoryTable(table_NV)
        self._optimizer = RowAdamW(
            {"table": self._table}, beta1=BETAS[0], beta2=BETAS[1], eps=EPS, weight_decay=WEIGHT_DECAY
        )

    def forward(self, slots_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """Return the weighted sums [T, V]."""
        return embedding_bag(self._table, slots_TK, weights_TK)

    def update(self) -> None:
        """Take the optimizer's step."""
        self._optimizer.step(RATE)

    def table(self) -> Tensor:
        """Return the current rows [N, V]."""
        self._optimizer.flush()
        return self._table.detach()


class TorchDense:
    """torch's embedding bag with a dense gradient."""

    num_tables, num_reads = 6, 0  # table, gradient, two moments, and two that AdamW makes in passing
    fused = False
    sparse = False

    def __init__(self, table_NV: Tensor) -> None:
        self._bag = nn.EmbeddingBag.from_pretrained(table_NV, freeze=False, mode="sum", sparse=self.sparse)
        self._optimizer = self._make_optimizer()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        # fused=None is the default: torch chooses, on the CPU a loop over parameters.
        return torch.optim.AdamW(
            self._bag.parameters(), lr=RATE, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY, fused=self.fused or None
        )

    def forward(self, slots_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """Return the weighted sums [T, V]."""
        if not weights_have_gradient(weights_TK.device, weights_TK.dtype):
            weights_TK = weights_TK.detach()
        sums_TV: Tensor = self._bag(slots_TK, per_sample_weights=weights_TK)
        return sums_TV

    def update(self) -> None:
        """Take the optimizer's step, and clear the gradient."""
        self._optimizer.step()
        self._optimizer.zero_grad()

    def table(self) -> Tensor:
        """Return the current rows [N, V]."""
        return self._bag.weight.detach()


@functools.cache
def weights_have_gradient(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch can differentiate an embedding bag in its weights, for a device and type."""
    weights = torch.ones(1, 1, device=device, dtype=dtype, requires_grad=True)
    slots, table = torch.zeros(1, 1, device=device, dtype=torch.int64), torch.ones(1, 8, device=device, dtype=dtype)
    try:
        nn.functional.embedding_bag(slots, table, per_sample_weights=weights, mode="sum").sum().backward()
    except NotImplementedError:
        return False
    return True


class TorchDenseFused(TorchDense):
    """The same with AdamW in one pass."""

    num_tables, num_reads = 4, 0
    fused = True


class TorchSparse(TorchDense):
    """torch's embedding bag with a sparse gradient."""

    num_tables, num_reads = 3, 8  # the optimizer works on copies of the touched rows
    sparse = True

    def _make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SparseAdam(self._bag.parameters(), lr=RATE, betas=BETAS, eps=EPS)


class Fbgemm:
    """FBGEMM's table-batched embedding on the CPU; its optimizer runs inside the backward."""

    num_tables, num_reads = 2, 1

    def __init__(self, table_NV: Tensor) -> None:
        # Imported where used: few machines have it, and it takes seconds.
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice,
            SplitTableBatchedEmbeddingBagsCodegen,
        )

        self._bags = SplitTableBatchedEmbeddingBagsCodegen(
            [(*table_NV.shape, EmbeddingLocation.HOST, ComputeDevice.CPU)],
            optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
            learning_rate=RATE,
        )
        self.table().copy_(table_NV)
        self._offsets_T1 = torch.empty(0, dtype=torch.int64)

    def forward(self, slots_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """Return the weighted sums [T, V]."""
        num_tokens, num_slots = slots_TK.shape
        if len(self._offsets_T1) != num_tokens + 1:
            self._offsets_T1 = torch.arange(num_tokens + 1) * num_slots
        sums_TV: Tensor = self._bags(slots_TK.flatten(), self._offsets_T1, per_sample_weights=weights_TK.flatten())
        return sums_TV

    def update(self) -> None:
        """Nothing: the backward pass has updated the rows."""

    def table(self) -> Tensor:
        """Return the current rows [N, V]."""
        return self._bags.split_embedding_weights()[0].detach()


STEPS: dict[str, type[Step]] = {
    "ours": Ours,
    "torch_dense": TorchDense,
    "torch_dense_fused": TorchDenseFused,
    "torch_sparse": TorchSparse,
    "fbgemm": Fbgemm,
}


def missing(name: str) -> str | None:
    """Return what this step needs that is not installed, in words; None if nothing is missing."""
    if name == "fbgemm" and importlib.util.find_spec("fbgemm_gpu") is None:
        return "fbgemm_gpu is not installed (pip install fbgemm_gpu-cpu)"
    return None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The lookups of one step, and the gradient of its output."""

    slots_TK: Tensor  # noqa: N815
    weights_TK: Tensor  # noqa: N815
    gradient_TV: Tensor  # noqa: N815


def take(step: Step, batch: Batch) -> tuple[float, float, float]:
    """Return the seconds of forward, backward and optimizer."""
    begun = time.perf_counter()
    sums_TV = step.forward(batch.slots_TK, batch.weights_TK)
    forward = time.perf_counter()
    sums_TV.backward(batch.gradient_TV)
    backward = time.perf_counter()
    step.update()
    return forward - begun, backward - forward, time.perf_counter() - backward


def peak_new_bytes(step: Step, batch: Batch) -> int:
    """Return the most memory that a step allocated on top of what was there."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # else the profiler says on stderr that it starts and stops
    tracemalloc.start()
    with profiler.profile(profile_memory=True, use_kineto=False) as profiled:
        take(step, batch)
        traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = most = 0
    assert profiled.kineto_results is not None
    for event in profiled.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most + traced
