"""The Triton back end against the torch one: through Triton's interpreter, on a GPU where there is one, and compiled.

TRITON_INTERPRET decides what a kernel is when Triton is first imported, for good: Triton's own functions are decorated
then, and `memscale.kernels.backends` keeps its choice. No fixture can take that back, so the checks below (functions
`check_*`, which pytest does not collect by itself) run in pytest processes of their own, one for each device; this
process never imports Triton, and tests beside this file see nothing of it. Compiling needs a process without the
variable, for the same reason.

A lookups, B bags, N rows, V width, T tokens, K slots per token.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from memscale.kernels import backends, bags_torch, rounding, rows_torch
from memscale.kernels.embedding_bag import embedding_bag
from memscale.kernels.lazy_decay import LazyDecay
from memscale.kernels.memory_table import MemoryTable
from memscale.kernels.row_adamw import RowAdamW
from memscale.kernels.row_products import row_products
from memscale.kernels.row_state import RowState

DEVICE = os.environ.get("MEMSCALE_TRITON_CHECKS", "")
"""Where the checks run, in a process of theirs."""
CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Relative to the largest magnitude; the interpreter cuts bfloat16 off instead of rounding it."""

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")


def run_python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    hidden = ("TRITON_INTERPRET", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=False)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_the_back_end_agrees_with_torch(device: str) -> None:
    variables = {"MEMSCALE_TRITON_CHECKS": device, "OMP_NUM_THREADS": "1"}
    if device == "cpu":
        variables["TRITON_INTERPRET"] = "1"
    options = ("-q", "-o", "python_functions=check_*", "-p", "no:cacheprovider")
    done = run_python("-m", "pytest", *options, __file__, **variables)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@needs_triton
@pytest.mark.slow
def test_no_kernel_spills_registers() -> None:
    done = run_python("-m", "memscale.kernels.triton_compile")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "registers" in line]
    assert [sum(target in line for line in lines) for target in ("sm_80", "sm_90")] == [32, 32]
    assert all("spilled    0 B" in line for line in lines)


@needs_triton
def test_spills_are_seen() -> None:
    code = """
import torch
from memscale.kernels import bags_triton, triton_compile, triton_launch
tile = triton_launch.tile
triton_launch.tile = lambda width, dtype: tile(width, dtype) | {"maxnreg": 32}
case = triton_compile.Case(kernel=bags_triton.embedding_bag_kernel, table=torch.bfloat16, width=1024)
print(triton_compile.compile_case(case, 90).spilled_bytes)
"""
    done = run_python("-c", code)
    assert int(done.stdout) > 0, done.stderr


def random(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def assert_near(actual: Tensor, expected: Tensor, tolerance: float | None = None) -> None:
    """Compare with what float64 gives."""
    assert actual.shape == expected.shape
    if expected.numel():
        max_difference, size = (actual.cpu().double() - expected.double()).abs().max(), expected.double().abs().max()
        assert max_difference <= (tolerance or CLOSE[actual.dtype]) * size


def bags(lengths: list[int], width: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, ...]:
    """Return rows, places, offsets and weights of bags of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    offsets_B1 = torch.tensor([0, *lengths]).cumsum(0)
    num_reads = int(offsets_B1[-1])
    indices_A = torch.randint(9, (num_reads,), generator=generator)
    return random(generator, 9, width, dtype=dtype), indices_A, offsets_B1, random(generator, num_reads, dtype=dtype)


def on_device(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.to(DEVICE) for tensor in tensors)


def exact(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in tensors)


DOUBLE, SINGLE, HALF, BRAIN = torch.float64, torch.float32, torch.float16, torch.bfloat16
TABLES = [(3, DOUBLE), (96, SINGLE), (768, BRAIN), (300, DOUBLE), (1000, SINGLE), (1000, HALF)]


@pytest.mark.parametrize("width, dtype", TABLES)
def check_sums_and_squares_of_bags(width: int, dtype: torch.dtype) -> None:
    given = bags([3, 0, 64, 257, 1, 520, 0], width, dtype)
    kernels = backends.bags(given[0].to(DEVICE), "triton")
    sums_BV = kernels.embedding_bag(*on_device(*given))
    assert sums_BV.dtype == dtype
    assert_near(sums_BV, bags_torch.embedding_bag(*exact(*given)))
    squared_norm = kernels.bag_squared_norm(*on_device(*given))
    assert squared_norm.dtype == torch.float64
    assert_near(squared_norm, bags_torch.bag_squared_norm(*exact(*given)), min(CLOSE[dtype], 1e-5))
    assert torch.equal(sums_BV, kernels.embedding_bag(*on_device(*given)))


@pytest.mark.parametrize("width, dtype", TABLES)
def check_products_of_bags(width: int, dtype: torch.dtype) -> None:
    rows_NV, indices_A, offsets_B1, _ = bags([3, 0, 64, 1, 8, 17], width, dtype)
    x_BV = random(torch.Generator().manual_seed(1), 6, width, dtype=dtype)
    given = (rows_NV, indices_A, offsets_B1, x_BV)
    products_A = backends.bags(rows_NV.to(DEVICE), "triton").per_sample_weight_grad(*on_device(*given))
    assert products_A.dtype == dtype
    assert_near(products_A, bags_torch.per_sample_weight_grad(*exact(*given)))


def check_a_long_bag_has_the_same_bits_wherever_its_reads_lie() -> None:
    rows_NV, indices_A, offsets_B1, weights_A = bags([700], 40, torch.float32)
    kernels = backends.bags(rows_NV.to(DEVICE), "triton")
    alone_BV = kernels.embedding_bag(*on_device(rows_NV, indices_A, offsets_B1, weights_A))
    for before in (1, 255, 256, 300):
        shifted = (torch.cat([indices_A[:before], indices_A]), torch.tensor([0, before, before + 700]))
        found_BV = kernels.embedding_bag(*on_device(rows_NV, *shifted, torch.cat([weights_A[:before], weights_A])))
        assert torch.equal(found_BV[1:], alone_BV)


def check_nothing_to_do_is_done() -> None:
    kernels = backends.bags(torch.zeros(1, device=DEVICE), "triton")
    for lengths in ([], [0, 0]):
        rows_NV, indices_A, offsets_B1, weights_A = on_device(*bags(lengths, 5, torch.float32))
        zeros_BV = torch.zeros(len(lengths), 5, device=DEVICE)
        assert torch.equal(kernels.embedding_bag(rows_NV, indices_A, offsets_B1, weights_A), zeros_BV)
        assert kernels.bag_squared_norm(rows_NV, indices_A, offsets_B1, weights_A) == 0.0
        assert kernels.per_sample_weight_grad(rows_NV, indices_A, offsets_B1, zeros_BV).shape == (0,)
    state, coefficients, rows_N = rows_with_pending_updates(torch.float32, 5, by_row=False)
    kernels_of_rows = backends.rows(torch.zeros(1, device=DEVICE), "triton")
    kernels_of_rows.catch_up(RowState(*on_device(*state)), rows_N[:0].to(DEVICE), coefficients.to(DEVICE), 1e-8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("tokens, lookups, width", [(5, 1, 96), (2, 64, 300), (0, 3, 7), (4, 7, 33)])
def check_lookups_and_products_with_gradients(dtype: torch.dtype, tokens: int, lookups: int, width: int) -> None:
    generator = torch.Generator().manual_seed(tokens)
    table_NV, x_TV = random(generator, 6, width, dtype=dtype), random(generator, tokens, width, dtype=dtype)
    slots_TK = torch.randint(6, (tokens, lookups), generator=generator)
    weights_TK = random(generator, tokens, lookups, dtype=dtype)

    def results(backend: str | None, *tensors: Tensor) -> list[Tensor]:
        table_NV, weights_TK, x_TV = (tensor.requires_grad_() for tensor in tensors)
        at_TK = slots_TK.to(table_NV.device)
        out_TV = embedding_bag(table_NV, at_TK, weights_TK, backend=backend)
        first = [out_TV, *torch.autograd.grad(out_TV, (table_NV, weights_TK), x_TV.detach())]
        out_TK = row_products(table_NV, at_TK, x_TV, backend=backend)
        second = [out_TK, *torch.autograd.grad(out_TK, (table_NV, x_TV), weights_TK.detach())]
        return [tensor.to_dense() if tensor.is_sparse else tensor for tensor in (*first, *second)]

    found = results("triton", *on_device(table_NV, weights_TK, x_TV))
    again = results("triton", *on_device(table_NV, weights_TK, x_TV))
    expected = results("torch", *exact(table_NV, weights_TK, x_TV))
    for one, two, three in zip(found, again, expected, strict=True):
        assert one.dtype == dtype
        assert_near(one.detach(), three.detach())
        assert torch.equal(one, two)


def trained(
    device: str, backend: str, dtype: torch.dtype, width: int, moments: str, master: bool = False, steps: int = 30
) -> dict[str, Tensor]:
    """Return table and state after steps on rows drawn by Zipf's law."""
    generator = torch.Generator().manual_seed(0)
    initial_NV = random(generator, 10, width, dtype=torch.bfloat16)
    table = MemoryTable(initial_NV.to(device, dtype))
    optimizer = RowAdamW({"t": table}, weight_decay=0.1, second_moments=moments, master=master, backend=backend)
    chances_N = 1.0 / torch.arange(1, 11)
    for step in range(steps):
        slots_TK = torch.multinomial(chances_N, 6, replacement=True, generator=generator).view(3, 2)
        weights_TK, x_TV = (random(generator, 3, size, dtype=torch.bfloat16) for size in (2, width))
        out_TV = embedding_bag(table, slots_TK.to(device), weights_TK.to(device, dtype), backend=backend)
        out_TV.backward(x_TV.to(device, dtype))
        if step % 3:
            scale = torch.tensor(0.5, dtype=torch.float64, device=device) if step % 3 == 1 else 0.7
            optimizer.tables["t"].gradient.scale = scale
        optimizer.step(1e-2 * (1 + step % 4))
    optimizer.flush()
    return {"table": table.data, **optimizer.state()}


@pytest.mark.parametrize(
    "dtype, width, moments",
    [(DOUBLE, 40, "element"), (DOUBLE, 260, "row"), (SINGLE, 40, "element")],
)
def check_steps_of_adamw(dtype: torch.dtype, width: int, moments: str) -> None:
    found = trained(DEVICE, "triton", dtype, width, moments)
    for name, expected in trained("cpu", "torch", torch.float64, width, moments).items():
        assert_near(found[name], expected, CLOSE[dtype])


@pytest.mark.parametrize("moments", ["element", "row"])
def check_steps_of_adamw_have_the_same_bits_again(moments: str) -> None:
    found = trained(DEVICE, "triton", torch.float32, 40, moments, steps=5)
    again = trained(DEVICE, "triton", torch.float32, 40, moments, steps=5)
    assert all(torch.equal(tensor, again[name]) for name, tensor in found.items())


@pytest.mark.parametrize("moments, master", [("element", False), ("row", True)])
def check_steps_of_adamw_on_bfloat16(moments: str, master: bool) -> None:
    found = trained(DEVICE, "triton", torch.bfloat16, 40, moments, master)
    expected = trained("cpu", "torch", torch.bfloat16, 40, moments, master)
    # A GPU's roots and quotients are off by their last bit, which now and then tips the rounding of a weight.
    unequal = (found["table"].cpu() != expected["table"]).float().mean()
    assert unequal <= (0.02 if DEVICE == "cuda" else 0.0)
    for name, tensor in expected.items():
        assert_near(found[name], tensor, 1e-2 if name == "table" else 1e-5)


def rows_with_pending_updates(
    dtype: torch.dtype, width: int, by_row: bool
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Return the state of rows at all steps up to the third, the coefficients of the pending updates, and the rows."""
    generator, decay = torch.Generator().manual_seed(0), LazyDecay(beta1=0.9, beta2=0.95, weight_decay=0.1)
    decay.advance([1e-2, 2e-2, 3e-2])
    pairs = torch.tensor([(moved, since) for since in range(4) for moved in range(since + 1)], dtype=torch.int32)
    kind, num_rows = torch.promote_types(dtype, torch.float32), len(pairs)
    had = (pairs[:, :1] > 0).to(kind)
    first_NV = had * random(generator, num_rows, width, dtype=kind)
    second_NV = had * random(generator, num_rows, 1 if by_row else width, dtype=kind).square()
    state = (random(generator, num_rows, width, dtype=dtype), first_NV, second_NV, *pairs.T.contiguous())
    return state, torch.from_numpy(decay.coefficients), torch.arange(num_rows)


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def check_pending_updates_are_applied_once(dtype: torch.dtype, by_row: bool) -> None:
    state, coefficients, rows_N = rows_with_pending_updates(dtype, 300, by_row)
    if dtype == torch.bfloat16:
        state[0][:, :3] = torch.tensor([torch.inf, -torch.inf, torch.nan])
    found = RowState(*(tensor.clone() for tensor in on_device(*state)))
    expected = RowState(*(tensor.clone() for tensor in state))
    rows_U = rows_N[rows_N != 1]
    backends.rows(found.weights_NV, "triton").catch_up(found, rows_U.to(DEVICE), coefficients.to(DEVICE), 1e-8)
    rows_torch.catch_up(expected, rows_U, coefficients, 1e-8)
    still_N = (state[4] == 3) | (rows_N == 1)
    assert torch.equal(found.weights_NV.cpu()[still_N].nan_to_num(), state[0][still_N].nan_to_num())
    tolerance = {"rtol": CLOSE[dtype], "atol": CLOSE[dtype]} if dtype != torch.bfloat16 else {"rtol": 0, "atol": 0}
    if DEVICE == "cuda" and dtype == torch.bfloat16:
        tolerance = {"rtol": 1e-2, "atol": 1e-2}
    torch.testing.assert_close(found.weights_NV.cpu(), expected.weights_NV, equal_nan=True, **tolerance)
    assert torch.equal(found.weights_step_N.cpu(), expected.weights_step_N)
    assert torch.equal(found.first_NV.cpu(), state[1])


@pytest.mark.skipif(DEVICE != "cuda", reason="the interpreter would copy gigabytes")
def check_tables_above_two_to_the_31_elements() -> None:
    table_NV = torch.zeros((1 << 21) + 5, 1024, dtype=torch.bfloat16, device=DEVICE)
    table_NV[-1] = torch.arange(1024) % 64
    slots_TK, weights_TK = torch.tensor([[len(table_NV) - 1]]), torch.ones(1, 1)
    assert torch.equal(embedding_bag(table_NV, *on_device(slots_TK, weights_TK), backend="triton")[0], table_NV[-1])


if DEVICE:
    import triton.language as tl

    from memscale.kernels import bags_triton, rounding_triton

    @bags_triton.jit
    def bits_kernel(rows_ptr: tl.tensor, out_ptr: tl.tensor, step: tl.tensor, WIDTH: tl.constexpr) -> None:
        u, columns = tl.program_id(0), tl.arange(0, WIDTH)
        snapshot = rounding_triton.random_bits(tl.load(rows_ptr + u), columns, step)
        tl.store(out_ptr + u * WIDTH + columns, snapshot.to(tl.int64))

    def check_random_bits_are_those_of_the_reference() -> None:
        rows_U = torch.tensor([0, 1, 12345, (1 << 31) + 7, (1 << 32) - 1, (1 << 32) + 3, (1 << 40) + 9])
        out_UV = torch.zeros(len(rows_U), 16, dtype=torch.int64, device=DEVICE)
        for step in (1, 7, 1 << 30):
            bits_kernel[(len(rows_U),)](rows_U.to(DEVICE), out_UV, step, 16)
            assert torch.equal(out_UV.cpu(), rounding.random_bits(rows_U, 16, step))
