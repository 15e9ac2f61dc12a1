"""Tables narrower than float32: stochastic rounding to bfloat16, and float32 master copies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from memscale.kernels import rounding, rows_torch
from memscale.kernels.embedding_bag import embedding_bag
from memscale.kernels.memory_table import MemoryTable
from memscale.kernels.row_adamw import RowAdamW
from tests.kernels.row_scenarios import LazyRun, Scenario, bitwise_equal

BRAIN = Scenario(num_steps=40, dtype=torch.bfloat16, eps=1e-8, coupling=0.0, peak_rate=1e-2)
"""Without a share of what tokens got, gradients are the same whatever the table's type."""


def values(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator) * 10.0 ** torch.randint(-6, 7, shape, generator=generator)


def neighbours(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bfloat16 numbers next to x towards zero and away from it, as float64; both are x where it is one."""
    inner = (x.view(torch.int32) & -0x10000).view(torch.float32)
    outer = (inner.view(torch.int32) + 0x10000).view(torch.float32)
    return inner.double(), torch.where(inner == x, x, outer).double()


def test_every_value_becomes_one_of_its_two_neighbours_and_exact_ones_stay() -> None:
    x, rows = values(500, 7), torch.arange(500)
    inner, outer = neighbours(x)
    seen_inner = seen_outer = 0
    for step in range(20):
        rounded = rounding.to_bfloat16(x, rows, step)
        assert rounded.dtype == torch.bfloat16
        is_inner, is_outer = rounded.double() == inner, rounded.double() == outer
        assert (is_inner | is_outer).all()
        seen_inner, seen_outer = seen_inner + is_inner, seen_outer + is_outer
    assert float((seen_inner > 0).float().mean()) > 0.9  # both are met
    assert float((seen_outer > 0).float().mean()) > 0.9
    exact = values(500, 7).bfloat16()
    assert torch.equal(rounding.to_bfloat16(exact.float(), rows, 3), exact)


@pytest.mark.parametrize("share", [1 / 256, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_rounding_is_unbiased(share: float, sign: float) -> None:
    """A step of `share` of the distance between neighbours: over rows, columns and steps its mean is what it was."""
    x = torch.full((4096, 16), sign * (1.0 + share / 128))
    steps = [rounding.to_bfloat16(x, torch.arange(4096), step).double() for step in range(1, 9)]
    moved = (torch.stack(steps) - sign) * 128 * sign
    assert set(moved.unique().tolist()) == {0.0, 1.0}
    for dims in ((0, 1, 2), (1, 2), (0, 1), (0, 2)):  # over all, by step, by column, by row
        mean = moved.mean(dims)
        num_draws = moved.numel() / mean.numel()
        errors = (mean - share).abs() / (share * (1 - share) / num_draws) ** 0.5
        assert float(errors.max()) < (4.5 if mean.numel() < 1000 else 7.0)
        assert float(errors.square().mean()) < (20.0 if mean.numel() == 1 else 4.0)


def test_bits_are_those_of_the_step_the_row_and_the_column() -> None:
    x, rows = values(64, 5), torch.arange(64) * 1000
    rounded = rounding.to_bfloat16(x, rows, 7)
    assert torch.equal(rounding.to_bfloat16(x, rows, 7), rounded)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rounding.to_bfloat16(x[order], rows[order], 7), rounded[order])
    assert torch.equal(rounding.to_bfloat16(x[10:20], rows[10:20], 7), rounded[10:20])
    assert not torch.equal(rounding.to_bfloat16(x, rows, 8), rounded)
    assert not torch.equal(rounding.to_bfloat16(x, rows + 1, 7), rounded)


def test_bits_are_the_documented_hash() -> None:
    def mixed(x: int) -> int:
        x = ((x ^ (x >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
        x = ((x ^ (x >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
        return x ^ (x >> 16)

    rows = [0, 1, 77, (1 << 31) + 5, (1 << 32) + 77, 1 << 40]
    found = rounding.random_bits(torch.tensor(rows), 4, 12)
    expected = [
        [mixed(mixed(mixed(mixed(12) ^ (row >> 32)) ^ (row & 0xFFFFFFFF)) ^ column) for column in range(4)]
        for row in rows
    ]
    assert found.tolist() == expected
    snapshot = (rounding.random_bits(torch.arange(20_000), 8, 3)[..., None] >> torch.arange(32)) & 1
    assert float((snapshot.float().mean((0, 1)) - 0.5).abs().max()) < 5 * 0.5 / 160_000**0.5


def test_what_is_not_finite_stays() -> None:
    x = torch.tensor([[torch.inf, -torch.inf, torch.nan, 0.0, -0.0]]).repeat(100, 1)
    for step in range(5):
        rounded = rounding.to_bfloat16(x, torch.arange(100), step).float()
        assert (rounded[:, 0] == torch.inf).all()
        assert (rounded[:, 1] == -torch.inf).all()
        assert rounded[:, 2].isnan().all()
        assert (rounded[:, 3:] == 0.0).all()
        assert rounded[:, 4].signbit().all()
    odd = torch.tensor([[0x7FFFFFFF, 0x7F800001, -1, -0x7FFFFF]], dtype=torch.int32).view(torch.float32)
    assert odd.isnan().all()  # of bits that adding to would turn into something else
    assert rounding.to_bfloat16(odd.repeat(100, 1), torch.arange(100), 1).isnan().all()


def trained(scenario: Scenario, **options: object) -> LazyRun:
    run = LazyRun(scenario, **options)
    for i in range(scenario.num_steps):
        run.step(i)
    return run


@pytest.mark.parametrize("moments", ["element", "row"])
def test_a_master_copy_is_what_a_float32_table_would_be(moments: str) -> None:
    narrow = trained(BRAIN, master=True, second_moments=moments)
    wide_scenario = Scenario(**{**vars(BRAIN), "dtype": torch.float32})
    wide = trained(wide_scenario, second_moments=moments)
    for is_flushed in (False, True):
        if is_flushed:
            narrow.optimizer.flush()
            wide.optimizer.flush()
        kept = narrow.optimizer.state()
        assert kept["master.values"].dtype == torch.float32
        assert torch.equal(kept["master.values"], wide.table.data)
        assert torch.equal(narrow.table.data, wide.table.data.bfloat16())
        assert all(torch.equal(kept[name], tensor) for name, tensor in wide.optimizer.state().items())


def test_a_float32_table_needs_no_master_copy() -> None:
    assert "master.t" not in RowAdamW({"t": MemoryTable(torch.zeros(3, 2))}, master=True).state()


def test_a_stochastic_run_has_the_same_bits_again_resumed_and_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(BRAIN)
    resumed = LazyRun(BRAIN)
    monkeypatch.setattr(rows_torch, "_BLOCK_VALUES", 5 * BRAIN.width)
    for i in range(BRAIN.num_steps):
        resumed = resumed.resumed() if i == 17 else resumed
        resumed.step(i)
    assert bitwise_equal(whole.snapshot(), resumed.snapshot())
    whole.optimizer.flush()
    resumed.optimizer.flush()
    assert bitwise_equal(whole.snapshot(), resumed.snapshot())
    assert whole.optimizer.state()["first_moments.values"].dtype == torch.float32


def test_lookups_without_gradients_do_not_change_a_stochastic_table() -> None:
    run = trained(BRAIN)
    before, rows = run.snapshot(), torch.arange(BRAIN.num_slots)[:, None]
    with torch.no_grad():
        seen = embedding_bag(run.table, rows, torch.ones(len(rows), 1, dtype=torch.bfloat16))
    assert bitwise_equal(run.snapshot(), before)
    run.optimizer.flush()
    # What was seen is rounded to the nearest, the table at random: they are at most neighbours.
    table = run.table.detach()
    assert float(((seen - table).abs() / table.abs().clamp(min=1e-3)).max()) <= 1 / 64


def test_small_steps_are_not_lost() -> None:
    """100 steps at rate 1e-4 in one direction. Rounding to the nearest loses them; stochastic rounding keeps the drift
    of a float32 table."""
    rate, num_rows, width = 1e-4, 256, 32
    initial = (torch.randn(num_rows, width, generator=torch.Generator().manual_seed(0)) * 0.2).bfloat16()
    slots = torch.arange(num_rows)[:, None]
    drifts = {}
    for dtype in (torch.float32, torch.bfloat16):
        table = MemoryTable(initial.to(dtype, copy=True))
        optimizer = RowAdamW({"t": table})
        num_still = 0.0
        for _ in range(100):
            before = table.data.clone()
            embedding_bag(table, slots, torch.ones(num_rows, 1)).backward(-torch.ones(num_rows, width, dtype=dtype))
            optimizer.step(rate)
            num_still += float((table.data == before).float().mean()) / 100
        drifts[dtype] = table.data.double() - initial.double()
    nearest = initial.clone()
    for _ in range(100):
        nearest = (nearest.float() + rate).bfloat16()
    exact, stochastic = drifts[torch.float32], drifts[torch.bfloat16]
    lost = float(((nearest.double() - initial.double()) / exact).mean())
    error = (stochastic - exact).std() / (num_rows * width) ** 0.5
    assert float(exact.mean()) == pytest.approx(1e-2, rel=1e-3)
    assert lost < 0.7  # the case is one in which the nearest would not do
    assert num_still > 0.5  # most steps leave a weight where it is; the others make up for them
    assert abs(float((stochastic - exact).mean() / error)) < 4.5
    assert float(stochastic.mean()) == pytest.approx(1e-2, rel=0.03)
