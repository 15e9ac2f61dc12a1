"""AdamW on the rows that were looked up, against dense AdamW on all rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from memscale.errors import ConfigError
from memscale.kernels.embedding_bag import embedding_bag
from memscale.kernels.memory_table import MemoryTable
from memscale.kernels.row_adamw import RowAdamW
from memscale.kernels.row_products import row_products
from tests.kernels.row_scenarios import BETAS, DenseRun, LazyRun, Scenario, bitwise_equal, max_difference

BACKENDS = ("numba", "torch")
SINGLE = Scenario(dtype=torch.float32, eps=1e-8)
DOUBLE = Scenario(dtype=torch.float64, eps=1e-12)
SMALL_GRADIENTS = Scenario(dtype=torch.float64, eps=1e-8, scale=1e-6)
"""Roots of second moments are from .5 to 70 eps, but for a tenth of them, where the closed form's error is largest."""
SHORT = Scenario(num_steps=60)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """One thread, for the tensors are small; and the number of before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "scenario, share, most",
    [(SINGLE, 1e-4, 1.0), (DOUBLE, 1e-7, 1e-7), (SMALL_GRADIENTS, 1e-4, 1.0)],
    ids=["float32", "float64", "small gradients"],
)
def test_a_thousand_steps_are_those_of_dense_adamw(scenario: Scenario, share: float, most: float, backend: str) -> None:
    """Zipf rows, a table shared by layers, micro-batches, warm-up and decay, weight decay, clipping, a resume half-way.

    `share` bounds the largest difference by the largest movement.
    """
    to_dense, lazy = DenseRun(scenario), LazyRun(scenario, backend)
    off_out = off_norm = 0.0
    num_clipped = 0
    for i in range(scenario.num_steps):
        if i == scenario.num_steps // 2:
            lazy = lazy.resumed()
        (expected, expected_norm), (found, norm) = to_dense.step(i), lazy.step(i)
        off_out = max(off_out, max_difference(found, expected))
        off_norm = max(off_norm, abs(float(norm / expected_norm) - 1.0))
        num_clipped += bool(expected_norm > scenario.max_norm * scenario.scale)
    lazy.optimizer.flush()
    difference, movement = max_difference(lazy.table, to_dense.table), to_dense.movement()
    assert movement > 0.1
    assert 0.1 < num_clipped / scenario.num_steps < 0.9
    assert difference <= min(most, share * movement)
    assert off_out <= min(most, share * 3 * movement)  # a token gets the weighted sum of three rows
    assert off_norm <= (1e-6 if scenario.dtype == torch.float32 else max(share, 1e-12))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_resumed_run_has_the_bits_of_an_undisturbed_one(backend: str, dtype: torch.dtype) -> None:
    scenario = Scenario(num_steps=60, dtype=dtype)
    whole, again, resumed = (LazyRun(scenario, backend) for _ in range(3))
    for i in range(scenario.num_steps):
        if i in (1, 31):
            resumed = resumed.resumed()
        outs = [run.step(i)[0] for run in (whole, again, resumed)]
        assert torch.equal(outs[0], outs[1])
        assert torch.equal(outs[0], outs[2])
    for run in (whole, again, resumed):
        run.optimizer.flush()
    assert bitwise_equal(whole.snapshot(), again.snapshot())
    assert bitwise_equal(whole.snapshot(), resumed.snapshot())


@pytest.mark.parametrize("moments", ["element", "row"])
def test_bits_do_not_depend_on_the_number_of_threads(moments: str) -> None:
    scenario = Scenario(num_steps=8, dtype=torch.float32, num_slots=900, num_tokens=40, zipf=0.5)  # for three threads
    results = []
    for num_threads in (1, 3):
        torch.set_num_threads(num_threads)
        lazy = LazyRun(scenario, "numba", second_moments=moments)
        for i in range(scenario.num_steps):
            lazy.step(i)
        lazy.optimizer.flush()
        results.append(lazy.snapshot())
    assert bitwise_equal(*results)


@pytest.mark.parametrize("backend", BACKENDS)
def test_settling_leaves_dense_adamws_table_and_a_run_that_goes_on(backend: str) -> None:
    to_dense, lazy = DenseRun(SHORT), LazyRun(SHORT, backend)
    for i in range(SHORT.num_steps):
        to_dense.step(i)
        lazy.step(i)
        if i in (0, 20, 21, 59):
            assert max_difference(lazy.table, to_dense.table) > 1e-6 or i == 0
            assert not lazy.optimizer.tables["values"].is_flushed
            lazy.optimizer.flush()
            assert max_difference(lazy.table, to_dense.table) <= 1e-7 * to_dense.movement() + 1e-15
            assert (lazy.optimizer.state()["weights_steps.values"] == i + 1).all()
            assert lazy.optimizer.tables["values"].is_flushed
            is_flushed = lazy.snapshot()
            lazy.optimizer.flush()
            assert bitwise_equal(lazy.snapshot(), is_flushed)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("is_flushed", [False, True])
def test_lookups_without_gradients_apply_pending_updates_to_copies_only(backend: str, is_flushed: bool) -> None:
    to_dense, lazy, blind = DenseRun(SHORT), LazyRun(SHORT, backend), LazyRun(SHORT, backend)
    all_rows = torch.arange(SHORT.num_slots).repeat(2)[:, None]
    x = torch.eye(SHORT.width, dtype=SHORT.dtype)
    for i in range(40):
        for run in (to_dense, lazy, blind):
            run.step(i)
        if is_flushed and i == 20:
            lazy.optimizer.flush()
            blind.optimizer.flush()
        if i in (20, 30):
            before = lazy.snapshot()
            with torch.no_grad():
                seen = embedding_bag(
                    lazy.table, all_rows, torch.ones(len(all_rows), 1, dtype=SHORT.dtype), backend=backend
                )
                products = row_products(lazy.table, all_rows.T[:, :310].expand(SHORT.width, -1), x, backend=backend)
            assert max_difference(seen, to_dense.table.repeat(2, 1)) <= 1e-7 * to_dense.movement()
            assert max_difference(products, to_dense.table.T) <= 1e-7 * to_dense.movement()
            assert bitwise_equal(lazy.snapshot(), before)
            assert not lazy.optimizer.tables["values"].gradient
    assert bitwise_equal(lazy.snapshot(), blind.snapshot())


def test_a_detached_table_has_a_sparse_gradient() -> None:
    lazy = LazyRun(SHORT)
    lazy.step(0)
    assert lazy.table.grad is None
    lazy.optimizer.detach()
    slots, weights = torch.tensor([[3, 5], [5, 7]]), torch.ones(2, 2, dtype=SHORT.dtype)
    embedding_bag(lazy.table, slots, weights).sum().backward()
    gradient = lazy.table.grad
    assert gradient is not None
    assert gradient.is_sparse
    assert gradient.coalesce().indices().tolist() == [[3, 5, 7]]
    assert gradient.to_dense()[[3, 5, 7], 0].tolist() == [1.0, 2.0, 1.0]
    assert not lazy.optimizer.tables["values"].gradient


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_tables_of_one_optimizer_and_of_different_widths(backend: str) -> None:
    """PEER: the rows u_i go into dot products, the rows v_i, wider here, into weighted sums; one norm over both."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    initial = {"input": 0.3 * drawn(40, 5), "output": 0.3 * drawn(40, 9)}
    to_dense = {name: rows.clone().requires_grad_() for name, rows in initial.items()}
    reference = torch.optim.AdamW(to_dense.values(), betas=BETAS, eps=1e-12, weight_decay=0.1)
    tables = {name: MemoryTable(rows.clone()) for name, rows in initial.items()}
    optimizer = RowAdamW(tables, beta1=BETAS[0], beta2=BETAS[1], eps=1e-12, weight_decay=0.1, backend=backend)
    for step in range(80):
        slots, weights = torch.randint(40, (4, 2), generator=generator), drawn(4, 2)
        x, target, rate = drawn(4, 5), drawn(4, 9), 1e-2 * (80 - step) / 80
        hidden = F.gelu((to_dense["input"][slots] * x[:, None]).sum(-1))
        expected = (to_dense["output"][slots] * (weights * hidden)[..., None]).sum(1)
        found = row_products(tables["input"], slots, x, backend=backend)
        found = embedding_bag(tables["output"], slots, weights * F.gelu(found), backend=backend)
        assert max_difference(found, expected) <= 1e-8
        reference.zero_grad()
        (expected - target).square().sum().backward()
        (found - target).square().sum().backward()
        norm = torch.nn.utils.clip_grad_norm_(to_dense.values(), 5.0)
        squared_norm = [square.detach() for square in optimizer.squared_norms()]
        assert [float(square) for square in squared_norm] == pytest.approx(
            [float(table.gradient.to_dense().detach().square().sum()) for table in optimizer.tables.values()], rel=1e-12
        )
        assert float(sum(squared_norm)) ** 0.5 == pytest.approx(float(norm), rel=1e-7)
        optimizer.scale_gradients((5.0 / (norm + 1e-6)).clamp(max=1.0))
        reference.param_groups[0]["lr"] = rate
        reference.step()
        optimizer.step(rate)
    optimizer.flush()
    for name, table in tables.items():
        assert max_difference(table, initial[name]) > 0.1
        assert max_difference(table, to_dense[name]) <= 1e-8
    assert set(optimizer.state()) == {
        f"{what}.{name}"
        for what in ("first_moments", "second_moments", "moments_steps", "weights_steps")
        for name in tables
    }


def adamw_step(table: Tensor, moments: tuple[Tensor, Tensor], gradient: Tensor, step: int, rate: float) -> None:
    """AdamW on all rows from the paper's formulas; a second moment of one column is that of a row's mean square."""
    (first, second), (beta1, beta2) = moments, BETAS
    squared_norm = gradient.square() if second.shape[1] > 1 else gradient.square().mean(1, keepdim=True)
    first.mul_(beta1).add_((1 - beta1) * gradient)
    second.mul_(beta2).add_((1 - beta2) * squared_norm)
    table.mul_(1 - rate * 0.1)
    table.sub_(rate * first / (1 - beta1**step) / ((second / (1 - beta2**step)).sqrt() + 1e-12))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("moments", ["element", "row"])
def test_odd_steps_and_second_moments_by_row(backend: str, moments: str) -> None:
    """Steps without any gradient, rows looked up with weights of zero, or not in the loss, clipped steps."""
    generator = torch.Generator().manual_seed(0)
    initial = 0.3 * torch.randn(30, 6, generator=generator, dtype=torch.float64)
    table, to_dense = MemoryTable(initial.clone()), initial.clone()
    optimizer = RowAdamW({"t": table}, eps=1e-12, weight_decay=0.1, second_moments=moments, backend=backend)
    kept = torch.zeros_like(to_dense), torch.zeros(30, 6 if moments == "element" else 1, dtype=torch.float64)
    assert optimizer.state()["second_moments.t"].shape == kept[1].shape
    for step in range(1, 101):
        rate, gradient = 1e-2 if step % 9 else 0.0, torch.zeros_like(to_dense)
        if step % 5 not in (0, 1) and not 40 < step < 60:
            for _micro_batch in range(2):
                slots = torch.randint(29, (3, 2), generator=generator)  # row 29 is never looked up
                weights = torch.randn(3, 2, generator=generator, dtype=torch.float64)
                if step % 3 == 0:
                    weights[0] = 0.0
                x = torch.randn(3, 6, generator=generator, dtype=torch.float64)
                embedding_bag(table, slots, weights, backend=backend).backward(x)
                gradient.index_add_(0, slots.flatten(), (weights[..., None] * x[:, None]).flatten(0, 1))
            unused = torch.randint(29, (2, 2), generator=generator)
            seen = embedding_bag(table, unused, torch.ones(2, 2, dtype=torch.float64), backend=backend)
            assert max_difference(seen, to_dense[unused].sum(1)) <= 1e-8
        if step % 4 == 0:
            optimizer.scale_gradients(torch.tensor(0.3, dtype=torch.float64))
            gradient *= 0.3
        optimizer.step(rate)
        adamw_step(to_dense, kept, gradient, step, rate)
    assert optimizer.num_steps == 100
    optimizer.flush()
    assert max_difference(table, initial) > 0.1
    assert max_difference(table, to_dense) <= 1e-8
    shrunk = (1 - 1e-2 * 0.1) ** 89
    torch.testing.assert_close(table.data[29], initial[29] * shrunk, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_weights_are_a_gradient_of_zero(backend: str) -> None:
    table = MemoryTable(torch.ones(4, 3, dtype=torch.float64))
    optimizer = RowAdamW({"t": table}, weight_decay=0.1, backend=backend)
    embedding_bag(table, torch.tensor([[2]]), torch.zeros(1, 1, dtype=torch.float64), backend=backend).sum().backward()
    assert optimizer.squared_norms()[0] == 0.0
    optimizer.step(1e-2)
    optimizer.flush()
    torch.testing.assert_close(table.data, torch.full((4, 3), 1 - 1e-3, dtype=torch.float64), rtol=1e-14, atol=0.0)
    assert optimizer.state()["moments_steps.t"].tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_may_come_after_rows_have_fallen_behind(backend: str) -> None:
    """A backward pass that comes a step late: its rows have that step pending when theirs is taken."""
    initial = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table, to_dense, slots = MemoryTable(initial.clone()), initial.clone(), torch.tensor([[1, 3]])
    kept, weights = (torch.zeros_like(to_dense), torch.zeros_like(to_dense)), torch.ones(1, 2, dtype=torch.float64)
    optimizer = RowAdamW({"t": table}, eps=1e-12, weight_decay=0.1, backend=backend)
    late = None
    for step in range(1, 7):
        gradient = torch.zeros_like(to_dense)
        if step in (1, 4):
            late = embedding_bag(table, slots, weights, backend=backend)
            late.sum().backward(retain_graph=True)
            gradient[[1, 3]] = 1.0
        if step == 6:
            assert late is not None
            late.sum().backward()
            gradient[[1, 3]] = 1.0
        optimizer.step(1e-2)
        adamw_step(to_dense, kept, gradient, step, 1e-2)
    optimizer.flush()
    assert max_difference(table, to_dense) <= 1e-8


def test_what_has_no_closed_form_is_refused() -> None:
    table = MemoryTable(torch.zeros(2, 2))
    with pytest.raises(ConfigError, match="lazy AdamW needs beta1 <= beta2"):
        RowAdamW({"t": table}, beta1=0.9, beta2=0.8)
    with pytest.raises(ConfigError, match="eps"):
        RowAdamW({"t": table}, eps=0.0)
    with pytest.raises(ConfigError, match="lazy AdamW needs less than 1"):
        RowAdamW({"t": table}, weight_decay=0.5).step(2.0)
