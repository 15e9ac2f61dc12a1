"""Selecting the best slots of product keys, forward and backward, beside the same in plain torch.

`python -m benchmarks.topk [--json FILE] [--threads 2]`. From half queries and two sets of half keys, in float32, to the
best slots, their scores, and the gradients of queries and keys. `grid` is how it is usually written: a top-k of each
half's scores, the sums of all pairs of these, a top-k of the sums, and autograd. Both take turns on queries and
gradients that are new at every step, and must find the same scores. The products of queries with half keys, which both
have to make in their forward, are timed alone as well, made at once as `grid` does; in parts that stay in the cache, as
`ours` makes them, they can take less.

T tokens, H heads, N half keys per set, K slots selected, W width of a half key.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks import machine
from memscale.kernels.product_keys import product_key_topk
from memscale.records.atomic import write_json

_ROUNDS, _WARM_UP = 15, 3

Select = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Sizes of one selection."""

    num_keys: int
    knn: int
    tokens: int = 2048
    heads: int = 4
    half_width: int = 64


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Queries, keys and the gradient of the scores."""

    query_T2HW: Tensor  # noqa: N815
    keys_2HNW: Tensor  # noqa: N815
    gradient_THK: Tensor  # noqa: N815


CASES = tuple(Case(num_keys=num_keys, knn=knn) for num_keys in (256, 1024) for knn in (8, 32))


def half_scores(query_T2HW: Tensor, keys_2HNW: Tensor) -> Tensor:
    """Return [2, H, T, N]: each half query's product with each half key of its set."""
    return torch.matmul(query_T2HW.permute(1, 2, 0, 3), keys_2HNW.mT)


def grid(query_T2HW: Tensor, keys_2HNW: Tensor, knn: int) -> tuple[Tensor, Tensor]:
    """Return the best slots and their scores, both [T, H, K], of all K * K pairs of the best half keys."""
    num_keys = keys_2HNW.shape[2]
    best_2HTK, places_2HTK = half_scores(query_T2HW, keys_2HNW).topk(knn, dim=-1)
    sums_HTKK = best_2HTK[0][..., :, None] + best_2HTK[1][..., None, :]
    slots_HTKK = places_2HTK[0][..., :, None] * num_keys + places_2HTK[1][..., None, :]
    scores_HTK, pairs_HTK = sums_HTKK.flatten(-2).topk(knn, dim=-1)
    slots_HTK = slots_HTKK.flatten(-2).gather(-1, pairs_HTK)
    return slots_HTK.transpose(0, 1), scores_HTK.transpose(0, 1)


BACKENDS: dict[str, Select] = {"ours": product_key_topk, "grid": grid}


def batches(case: Case) -> Iterator[Batch]:
    """Queries, keys and gradients, always the same ones."""
    generator = torch.Generator().manual_seed(0)
    while True:
        query_T2HW = torch.randn(case.tokens, 2, case.heads, case.half_width, generator=generator)
        keys_2HNW = torch.randn(2, case.heads, case.num_keys, case.half_width, generator=generator)
        yield Batch(
            query_T2HW=query_T2HW.requires_grad_(),
            keys_2HNW=keys_2HNW.requires_grad_(),
            gradient_THK=torch.randn(case.tokens, case.heads, case.knn, generator=generator),
        )


def take(selected: Select, batch: Batch, knn: int) -> tuple[float, float]:
    """Seconds of forward and backward."""
    batch.query_T2HW.grad = batch.keys_2HNW.grad = None
    begun = time.perf_counter()
    _, scores_THK = selected(batch.query_T2HW, batch.keys_2HNW, knn)
    forward = time.perf_counter()
    scores_THK.backward(batch.gradient_THK)
    return forward - begun, time.perf_counter() - forward


@torch.no_grad()
def matmul_seconds(batch: Batch) -> float:
    """Return the seconds of the half scores' matrix products alone."""
    begun = time.perf_counter()
    half_scores(batch.query_T2HW, batch.keys_2HNW)
    return time.perf_counter() - begun


@torch.no_grad()
def check_same(batch: Batch, knn: int) -> None:
    """Both must find the same scores, and slots that have them."""
    found = [selected(batch.query_T2HW, batch.keys_2HNW, knn) for selected in BACKENDS.values()]
    halves_2HTN = half_scores(batch.query_T2HW, batch.keys_2HNW)
    num_keys = halves_2HTN.shape[3]
    for slots_THK, scores_THK in found:
        torch.testing.assert_close(scores_THK, found[0][1], rtol=1e-4, atol=1e-4)
        slots_HTK = slots_THK.transpose(0, 1)
        first, second = slots_HTK // num_keys, slots_HTK % num_keys
        sums_HTK = halves_2HTN[0].gather(-1, first) + halves_2HTN[1].gather(-1, second)
        torch.testing.assert_close(scores_THK, sums_HTK.transpose(0, 1), rtol=1e-4, atol=1e-4)


def measure_case(case: Case, rounds: int = _ROUNDS) -> list[dict[str, Any]]:
    """A row per backend."""
    draws = batches(case)
    check_same(next(draws), case.knn)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in BACKENDS}
    matmuls = []
    for turn in range(rounds + _WARM_UP):
        batch = next(draws)
        parts = {name: take(selected, batch, case.knn) for name, selected in BACKENDS.items()}
        matmul_s = matmul_seconds(batch)
        if turn >= _WARM_UP:
            matmuls.append(matmul_s)
            for name in BACKENDS:
                taken[name].append(parts[name])
    return [row(case, name, taken[name], median(matmuls)) for name in BACKENDS]


def row(case: Case, name: str, taken: list[tuple[float, float]], matmul_s: float) -> dict[str, Any]:
    """Return the figures of one back end."""
    whole = [forward + backward for forward, backward in taken]
    return {
        "num_keys": case.num_keys,
        "knn": case.knn,
        "heads": case.heads,
        "tokens": case.tokens,
        "key_width": 2 * case.half_width,
        "backend": name,
        "forward_s": median(forward for forward, _ in taken),
        "backward_s": median(backward for _, backward in taken),
        "step_s": median(whole),
        "spread": [min(whole), max(whole)],
        "matmul_s": matmul_s,
    }


def line(row: dict[str, Any], grid_s: float) -> str:
    """Return the printed line of one row."""
    low, high = row["spread"]
    return (
        f"{row['num_keys']:5} half keys, {row['knn']:2} slots, {row['backend']:5} forward {1e3 * row['forward_s']:6.1f}"
        f"  backward {1e3 * row['backward_s']:6.1f}  step {1e3 * row['step_s']:6.1f} ms "
        f"[{1e3 * low:.1f}, {1e3 * high:.1f}]  products alone {1e3 * row['matmul_s']:5.1f}  "
        f"{grid_s / row['step_s']:.3g} x as fast as grid"
    )


def measure() -> dict[str, Any]:
    """Measure all cases, and print each when it is done."""
    here = machine.describe()
    print(f"{here['processor']}, {here['threads']} thread(s), load {here['load']:.2g}")
    rows: list[dict[str, Any]] = []
    for case in CASES:
        done = measure_case(case)
        grid_s = next(row["step_s"] for row in done if row["backend"] == "grid")
        print("\n".join(line(row, grid_s) for row in done), flush=True)
        rows += done
    return {"machine": here, "rows": rows}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.topk", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    done = measure()
    if given.json is not None:
        write_json(given.json, json.loads(json.dumps(done)), format=1)


if __name__ == "__main__":
    main()
