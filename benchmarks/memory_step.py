"""One training step of a memory lookup (forward, backward, optimizer) beside other libraries, in one process.

`python -m benchmarks.memory_step [--json FILE] [--figure PNG] [--threads 2] [--quick]`; with `--device cuda` on a GPU
(`benchmarks.memory_step_gpu`). 2,048 tokens look up 4 x 32 slots each, in float32; slots, weights and output gradients
are new at every step and the same for all libraries (`benchmarks.peers`). Slots are uniform, or Zipf-distributed with
exponent 1.1. Before a step is timed it has run so often that most rows have moments and a pending update, which `ours`
applies in its forward pass.

The floor is the memory traffic that cannot be avoided over the speed at which this process copies 1 GiB (all threads,
bytes read and written): with U distinct rows, U * width * 4 bytes a pass. Any exact Adam step needs 8 passes: weights
read in the forward pass, and again in the backward pass for the gradient of the lookup weights; weights and two moments
read and written by the optimizer. An exact lazy step needs 12: weights and moments are read and written once more when
pending updates are applied. Lookups of one row by several tokens, the slots and the arithmetic are left out. If the
tables fit into the processor's cache, a step may be faster than its floor.

`peak_new_bytes` is the most memory that one more, untimed step allocated on top of what was there: torch's from its
profiler, NumPy's and Python's from tracemalloc; what compiled code allocates by itself is not seen. It is null for
steps of more than two seconds.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import machine, memory_step_figure, memory_step_gpu, peers
from benchmarks.memory_step_case import Batches, Case, new_table, touched_rows
from memscale.records.atomic import write_json

_SLOW_S = 2.0
"""A step that takes longer is warmed up twice, and timed only three times."""
_ROUNDS, _LEAST_ROUNDS = 9, 3
_TIMED_S = 3.0
"""Rounds of one backend take about so long, where there are more than the fewest."""
_PASSES, _LAZY_PASSES = 8, 12


def all_cases() -> list[Case]:
    """Return the cases: numbers of slots at width 256, other widths, and a table of gigabytes."""
    sizes = (1 << 14, 1 << 16, 1 << 18, 1 << 20)
    return [
        *(Case(slots=slots, indices=indices) for indices in ("uniform", "zipf") for slots in sizes),
        *(Case(slots=slots, width=width) for slots in (1 << 16, 1 << 18) for width in (128, 512, 1024)),
        *(Case(slots=1 << 18, width=64, indices=indices) for indices in ("uniform", "zipf")),
        *(Case(slots=1 << 24, width=64, indices=indices, backends=("ours",)) for indices in ("uniform", "zipf")),
    ]


def quick_cases() -> list[Case]:
    """Return the cases with small tables of width 256."""
    return [case for case in all_cases() if case.width == 256 and case.slots <= 1 << 16]


def take_turns(
    step: peers.Step, draws: Iterator[peers.Batch], case: Case, rounds: int
) -> list[tuple[float, float, float]]:
    """Warm a step up, and return seconds of forward, backward and optimizer for each timed round."""
    for turn in range(case.warm_up):
        taken = sum(peers.take(step, next(draws)))
        if turn == 1 and taken > _SLOW_S:  # the first may have to compile
            break
    rounds = max(_LEAST_ROUNDS, min(rounds, int(_TIMED_S / taken)))
    return [peers.take(step, next(draws)) for _ in range(rounds)]


def measure_backend(name: str, case: Case, batches: Batches, rounds: int) -> dict[str, Any]:
    """Return one back end's figures for a case; its memory is free again afterwards."""
    step, draws = peers.STEPS[name](new_table(case)), iter(batches)
    taken = take_turns(step, draws, case, rounds)
    whole = [sum(parts) for parts in taken]
    peak = peers.peak_new_bytes(step, next(draws)) if median(whole) <= _SLOW_S else None
    del step
    gc.collect()  # an optimizer and its table know each other
    forward_s, backward_s, optimizer_s = (median(part) for part in zip(*taken, strict=True))
    return {
        "forward_s": forward_s,
        "backward_s": backward_s,
        "optimizer_s": optimizer_s,
        "step_s": median(whole),
        "spread": [min(whole), max(whole)],
        "peak_new_bytes": peak,
    }


def measure_case(case: Case, copy_bytes_per_s: float, rounds: int) -> list[dict[str, Any]]:
    """Return a row of figures per back end; print why one is left out."""
    batches = Batches(case)
    touched = touched_rows(batches)
    pass_s = touched * case.width * 4 / copy_bytes_per_s
    rows = []
    for name in case.backends:
        why = peers.missing(name) or _too_large(name, case)
        if why is not None:
            print(f"{name} is left out at {case.slots:,} slots of width {case.width}: {why}", flush=True)
            continue
        row = {"slots": case.slots, "width": case.width, "tokens": case.tokens, "indices": case.indices}
        row |= {"backend": name, "reads": case.reads, "touched_rows": touched}
        row |= measure_backend(name, case, batches, rounds)
        rows.append(row | {"floor_s": _PASSES * pass_s, "lazy_floor_s": _LAZY_PASSES * pass_s})
    return rows


def _too_large(name: str, case: Case) -> str | None:
    needed, available = case.needs_bytes(peers.STEPS[name]), available_bytes()
    if available is None or needed <= available:
        return None
    return f"it needs {needed / 2**30:.3g} GiB and {available / 2**30:.3g} GiB are available"


def available_bytes() -> int | None:
    """Return the kernel's estimate of memory available without swapping; None if it gives none."""
    path = Path("/proc/meminfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def copy_bytes_per_second(num_bytes: int = 1 << 30, repeats: int = 7) -> float:
    """Return bytes read and written per second by copying one buffer to another."""
    source, target = torch.ones(num_bytes // 4), torch.ones(num_bytes // 4)
    return 2 * num_bytes / median(machine.seconds(lambda: target.copy_(source), repeats))


def lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the printed lines of one case."""
    first = rows[0]
    table_bytes = first["slots"] * first["width"] * 4
    yield (
        f"\n{first['slots']:,} slots x {first['width']} ({table_bytes / 2**20:.3g} MiB), {first['indices']}: "
        f"{first['reads']:,} reads of {first['touched_rows']:,} rows; floor {1e3 * first['floor_s']:.3g} ms, "
        f"lazy {1e3 * first['lazy_floor_s']:.3g} ms"
    )
    yield (
        f"{'':18}{'forward':>9}{'backward':>9}{'optimizer':>10}{'step, ms':>9}{'[least, most]':>18}"
        f"{'x floor':>9}{'x lazy':>8}{'speedup':>8}{'us/row':>8}{'new MiB':>9}{'of table':>9}"
    )
    dense = next((row["step_s"] for row in rows if row["backend"] == "torch_dense"), None)
    for row in rows:
        milliseconds = [1e3 * row[f"{part}_s"] for part in ("forward", "backward", "optimizer", "step")]
        low, high = (f"{1e3 * end:.4g}" for end in row["spread"])
        faster = "-" if dense is None else f"{dense / row['step_s']:.3g}"
        peak = row["peak_new_bytes"]
        new, share = ("-", "-") if peak is None else (f"{peak / 2**20:.3g}", f"{peak / table_bytes:.2g}")
        yield (
            f"{row['backend']:18}{milliseconds[0]:9.4g}{milliseconds[1]:9.4g}{milliseconds[2]:10.4g}"
            f"{milliseconds[3]:9.4g}{f'[{low}, {high}]':>18}{row['step_s'] / row['floor_s']:9.3g}"
            f"{row['step_s'] / row['lazy_floor_s']:8.3g}{faster:>8}{1e6 * row['step_s'] / row['touched_rows']:8.3g}"
            f"{new:>9}{share:>9}"
        )


def measure(cases: list[Case], rounds: int = _ROUNDS) -> dict[str, Any]:
    """Measure all cases, printing each, and return the JSON content."""
    copied = copy_bytes_per_second()
    here = machine.describe()
    print(
        f"{here['processor']}, {here['threads']} thread(s), load {here['load']:.2g}, copies {copied / 1e9:.3g} GB/s "
        "(a loaded machine slows threads that wait for each other several times)"
    )
    rows: list[dict[str, Any]] = []
    for case in cases:
        done = measure_case(case, copied, rounds)
        if done:
            print("\n".join(lines(done)), flush=True)
        rows += done
    return {
        "machine": here,
        "versions": machine.versions("memscale", "torch", "numba", "fbgemm_gpu-cpu"),
        "copy_bytes_per_s": copied,
        "rows": rows,
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_step", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--figure", type=Path, help="PNG to draw them into")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="the small tables only, in few rounds")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.device == "cuda":
        done = memory_step_gpu.measure(memory_step_gpu.all_cases(quick=given.quick))
    else:
        done = measure(quick_cases(), _LEAST_ROUNDS) if given.quick else measure(all_cases())
    if given.json is not None:
        write_json(given.json, json.loads(json.dumps(done)), format=1)
    if given.figure is not None:
        memory_step_figure.write(done, given.figure, width=1024 if given.device == "cuda" else 256)


if __name__ == "__main__":
    main()
