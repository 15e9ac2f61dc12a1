"""The same step on a GPU: `python -m benchmarks.memory_step --device cuda [--json FILE] [--figure PNG] [--quick]`.

2,048 tokens, and at the largest tables 16,384 too, read 128 slots each; tables are bfloat16 (with float32 moments in
`ours`, with moments of their own type in torch) or float32. Batches are drawn on the GPU before they are timed. Parts
are timed by CUDA events and not waited for, so that a step takes as long as it takes in a loop, whichever of processor
and GPU is the slower. `peak_new_bytes` is what one more step allocated beyond what it found, by torch's count.

The floor is as on the CPU, bytes over the speed of a copy of 1 GiB within the GPU, read and written counted; of a
bfloat16 table each type's passes count with its own bytes. `lookup_s` is the forward alone on a plain table that nobody
keeps, so that nothing is caught up: of `ours` and, as `torch_dense`, of torch's EmbeddingBag. What it reads, reads *
width * bytes a value, over `lookup_s` and over the copy's speed is `lookup_share`; more than 1 where the processor's
cache holds the table. `weights_gradient` is false where torch has none for the type: its steps then do less. A
library that cannot run a case is left out and said. All takes one minute.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from itertools import islice
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import machine, peers
from benchmarks.memory_step_case import Batches, Case, new_table, touched_rows
from memscale.kernels.embedding_bag import embedding_bag

TYPES = (torch.bfloat16, torch.float32)
WIDTHS = (1024, 256)
BACKENDS = ("ours", "torch_dense", "torch_dense_fused", "torch_sparse")
_ROUNDS = 9
_NUM_SETS = 4
"""Batches that a lookup's rounds take in turns: with one, small tables would do best."""


def all_cases(*, quick: bool = False) -> list[Case]:
    """Both types and widths; the number of slots, and a larger batch at the most."""
    sizes = (1 << 14, 1 << 16) if quick else (1 << 14, 1 << 16, 1 << 18, 1 << 20)
    large = [] if quick else [(1 << 20, 1 << 14)]
    return [
        Case(
            slots=slots, width=width, dtype=dtype, indices=indices, tokens=tokens, device="cuda", backends=BACKENDS
        )
        for width in WIDTHS
        for dtype in TYPES
        for indices in ("uniform", "zipf")
        for slots, tokens in [*((slots, 2048) for slots in sizes), *large]
    ]  # fmt: skip


class Clock:
    """Marks in the device's queue of work, and the seconds between them; on the CPU at the time they are made."""

    def __init__(self, device: str) -> None:
        self._gpu = device == "cuda"
        self._marks: list[Any] = []

    def mark(self) -> None:
        """Record a point in time."""
        if self._gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Between each mark and the next; waits for the device."""
        pairs = list(zip(self._marks, self._marks[1:], strict=False))
        if not self._gpu:
            return [later - earlier for earlier, later in pairs]
        torch.cuda.synchronize()
        return [earlier.elapsed_time(later) / 1e3 for earlier, later in pairs]


def take(step: peers.Step, batch: peers.Batch, clock: Clock) -> None:
    """One step, with a mark before it and after each of its parts."""
    clock.mark()
    sums_TV = step.forward(batch.slots_TK, batch.weights_TK)
    clock.mark()
    sums_TV.backward(batch.gradient_TV)
    clock.mark()
    step.update()
    clock.mark()


def measure_backend(name: str, case: Case, batches: Batches, rounds: int) -> dict[str, Any]:
    """Its own part of a row; all memory is free again when it returns."""
    step, draws = peers.STEPS[name](new_table(case)), iter(batches)
    for batch in islice(draws, case.warm_up):
        take(step, batch, Clock(case.device))
    drawn, clock = list(islice(draws, rounds)), Clock(case.device)
    for batch in drawn:
        take(step, batch, clock)
    between = clock.seconds()
    taken = [between[first : first + 3] for first in range(0, len(between), 4)]
    whole = [sum(parts) for parts in taken]
    forward_s, backward_s, optimizer_s = (median(part) for part in zip(*taken, strict=True))
    return {
        "forward_s": forward_s,
        "backward_s": backward_s,
        "optimizer_s": optimizer_s,
        "step_s": median(whole),
        "spread": [min(whole), max(whole)],
        "peak_new_bytes": peak_new_bytes(step, next(draws), case.device),
    }


def peak_new_bytes(step: peers.Step, batch: peers.Batch, device: str) -> int:
    """Memory that a step holds at the most, beyond what it finds."""
    if device == "cpu":
        return peers.peak_new_bytes(step, batch)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    peers.take(step, batch)
    return torch.cuda.max_memory_allocated() - before


@torch.no_grad()
def lookup_seconds(name: str, case: Case, batches: Batches) -> float | None:
    """Of a forward alone; None where it would be another's over again."""
    if name not in ("ours", "torch_dense"):
        return None
    table_NV, drawn = new_table(case), list(islice(batches, _NUM_SETS))

    def sums(batch: peers.Batch) -> Tensor:
        if name == "ours":
            return embedding_bag(table_NV, batch.slots_TK, batch.weights_TK)
        return functional.embedding_bag(
            batch.slots_TK, table_NV, mode="sum", per_sample_weights=batch.weights_TK
        )  # fmt: skip

    for batch in drawn:
        sums(batch)
    clock = Clock(case.device)
    for turn in range(3 * _ROUNDS):
        clock.mark()
        sums(drawn[turn % _NUM_SETS])
        clock.mark()
    return median(clock.seconds()[::2])


def floors(case: Case, touched: int, copy_bytes_per_s: float) -> dict[str, float]:
    """Seconds that an exact step cannot go below, and an exact lazy one."""
    weights = case.dtype.itemsize
    moments = max(weights, 4)
    values_per_s = copy_bytes_per_s / (touched * case.width)
    return {
        "floor_s": (4 * weights + 4 * moments) / values_per_s,
        "lazy_floor_s": (6 * weights + 6 * moments) / values_per_s,
    }


def measure_case(case: Case, copy_bytes_per_s: float, rounds: int = _ROUNDS) -> list[dict[str, Any]]:
    """A row per backend; why one is left out is printed."""
    batches = Batches(case)
    touched = touched_rows(batches)
    rows = []
    for name in case.backends:
        needed, free = case.needs_bytes(peers.STEPS[name]), free_bytes(case.device)
        if needed > free:
            print(f"{name} is left out: it needs {needed / 2**30:.3g} GiB and {free / 2**30:.3g} GiB are free")
            continue
        row = {"slots": case.slots, "width": case.width, "dtype": str(case.dtype).removeprefix("torch.")}
        row |= {"tokens": case.tokens, "indices": case.indices, "backend": name}
        row |= {"reads": case.reads, "touched_rows": touched}
        whole = name == "ours" or peers.weights_have_gradient(torch.device(case.device), case.dtype)
        row["weights_gradient"] = whole
        try:
            row |= measure_backend(name, case, batches, rounds)
        except RuntimeError as error:  # a type or size that it does not have on this device
            print(f"{name} is left out: {str(error).splitlines()[0]}")
            continue
        lookup_s = lookup_seconds(name, case, batches)
        read = case.reads * case.row_bytes
        share = None if lookup_s is None else read / lookup_s / copy_bytes_per_s
        rows.append(row | floors(case, touched, copy_bytes_per_s) | {"lookup_s": lookup_s, "lookup_share": share})
        gc.collect()  # an optimizer and its table know each other
    return rows


def free_bytes(device: str) -> int:
    """Memory of a GPU that nobody has taken; as much as anybody needs on the CPU, where this runs in tests alone."""
    if device == "cpu":
        return 1 << 62
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info()[0]


def copy_bytes_per_second(device: str = "cuda", num_bytes: int = 1 << 30, rounds: int = _ROUNDS) -> float:
    """Bytes read and written per second by copying one buffer to another."""
    source, target = (torch.ones(num_bytes // 4, device=device) for _ in range(2))
    clock = Clock(device)
    for _ in range(rounds + 3):
        clock.mark()
        target.copy_(source)
    clock.mark()
    return 2 * num_bytes / median(clock.seconds()[3:])


def lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A table for one case."""
    first = rows[0]
    yield (
        f"\n{first['slots']:,} slots x {first['width']}, {first['dtype']}, {first['indices']}: {first['reads']:,} "
        f"reads of {first['touched_rows']:,} rows; floor {1e3 * first['floor_s']:.3g} ms, lazy "
        f"{1e3 * first['lazy_floor_s']:.3g} ms"
    )
    dense = next((row["step_s"] for row in rows if row["backend"] == "torch_dense"), None)
    for row in rows:
        forward, backward, optimizer, step = (
            1e3 * row[f"{part}_s"] for part in ("forward", "backward", "optimizer", "step")
        )
        faster = "" if dense is None else f", {dense / row['step_s']:.3g} x dense"
        alone = row["lookup_s"]
        told = "" if alone is None else f"; lookup {1e6 * alone:.0f} us, {100 * row['lookup_share']:.0f} % of a copy"
        told += "" if row["weights_gradient"] else "; no gradient of the weights"
        yield (
            f"  {row['backend']:18} forward {forward:7.3f}  backward {backward:7.3f}  optimizer {optimizer:7.3f}  "
            f"step {step:7.3f} ms{faster}; {row['peak_new_bytes'] / 2**20:.4g} MiB new{told}"
        )


def measure(cases: list[Case], device: str = "cuda") -> dict[str, Any]:
    """Measure all cases, and print each when it is done."""
    copied, here = copy_bytes_per_second(device), machine.describe()
    print(f"{here['gpu']}, copies {copied / 1e9:.4g} GB/s")
    rows: list[dict[str, Any]] = []
    for case in cases:
        done = measure_case(case, copied)
        if done:
            print("\n".join(lines(done)), flush=True)
        rows += done
    versions = machine.versions("memscale", "torch", "triton")
    return {"machine": here, "versions": versions, "copy_bytes_per_s": copied, "rows": rows}
