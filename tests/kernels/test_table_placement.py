"""What a step allocates, and tables that lie elsewhere than on the device."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from memscale.errors import ConfigError
from memscale.kernels.embedding_bag import embedding_bag
from memscale.kernels.memory_table import allocate_table
from memscale.kernels.row_adamw import RowAdamW
from memscale.kernels.row_products import row_products
from memscale.kernels.table_placement import TablePlacement
from tests.kernels.row_scenarios import LazyRun, Scenario, bitwise_equal, max_difference

NUM_SLOTS, WIDTH = 1 << 20, 64
NEEDED_ROOM = 5 * 10**9

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")


class Allocations(TorchDispatchMode):
    """Sums up the bytes that torch's operators return in memory of their own, and keeps the largest tensor's number of
    elements; memory known from before does not count."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.num_bytes = self.largest = self.num_ops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        taken = {a.untyped_storage().data_ptr() for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)}
        self.num_ops += 1
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in taken | self.known:
                self.num_bytes += tensor.untyped_storage().nbytes()
                self.largest = max(self.largest, tensor.numel())
        return found


@pytest.fixture
def _traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize("moments", ["element", "row"])
@pytest.mark.parametrize(
    "dtype, backend", [(torch.float32, "numba"), (torch.float32, "torch"), (torch.bfloat16, "torch")]
)
@pytest.mark.slow
def test_a_step_allocates_nothing_of_the_tables_size(dtype: torch.dtype, backend: str, moments: str) -> None:
    table = allocate_table(TablePlacement(), (NUM_SLOTS, WIDTH), dtype, "cpu")
    optimizer = RowAdamW({"t": table}, weight_decay=0.1, second_moments=moments, backend=backend)
    generator = torch.Generator().manual_seed(0)
    slots = torch.randint(NUM_SLOTS, (5, 32, 8), generator=generator)
    weights, x = torch.rand(32, 8, generator=generator), torch.randn(32, WIDTH, generator=generator).to(dtype)
    for i in range(5):
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        with Allocations([table.data, *optimizer.state().values()]) as seen:
            embedding_bag(table, slots[i], weights, backend=backend).backward(x)
            row_products(table, slots[i], x, backend=backend).backward(weights.to(dtype))
            norm = torch.stack(optimizer.squared_norms()).sum().sqrt()
            optimizer.scale_gradients((1.0 / norm).clamp(max=1.0))
            optimizer.step(1e-3)
            with torch.no_grad():
                embedding_bag(table, slots[0], weights, backend=backend)
        assert seen.num_ops > 20
        if i:  # at the first step code is loaded
            traced = tracemalloc.get_traced_memory()[1] - before
            assert traced + seen.num_bytes < table.nbytes / 10
        assert seen.largest < NUM_SLOTS * WIDTH / 4
    assert int((optimizer.state()["moments_steps.t"] > 0).sum()) == len(slots.unique())


@pytest.mark.parametrize("shape", [(3, 5), (1 << 12, 300)])
@pytest.mark.parametrize("placement", ["device", "host", "file"])
def test_tables_begin_with_zeros_of_their_own(placement: str, shape: tuple[int, int], tmp_path: Path) -> None:
    memory = TablePlacement(kind=placement, folder=tmp_path / "new" / "folder")
    tensors = [memory.zeros(shape, dtype, "cpu") for dtype in (torch.float32, torch.float32, torch.bfloat16)]
    for number, tensor in enumerate(tensors):
        assert tensor.shape == shape
        assert not tensor.any()
        tensor.fill_(number + 1)
    assert [float(tensor.float().mean()) for tensor in tensors] == [1.0, 2.0, 3.0]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert memory.staged == (placement != "device")


def test_what_cannot_be_laid_anywhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"table_memory.*device, host, file"):
        TablePlacement(kind="disk")
    with pytest.raises(ConfigError, match="table_memory is 'file', which needs a folder"):
        TablePlacement(kind="file")
    memory = TablePlacement(kind="file", folder=tmp_path)
    with pytest.raises(ConfigError, match=r"a table's file needs 1\.13e\+06 GB in .* GB are free; make room"):
        memory.zeros((1 << 40, 1 << 8), torch.float32, "cpu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("placement", ["host", "file"])
@pytest.mark.parametrize("backend, dtype", [("numba", torch.float32), ("torch", torch.float64), (None, torch.bfloat16)])
def test_staged_rows_give_the_same_bits(
    backend: str | None, dtype: torch.dtype, placement: str, tmp_path: Path
) -> None:
    scenario = Scenario(num_steps=20, dtype=dtype, eps=1e-8)
    memory = TablePlacement(kind=placement, folder=tmp_path)
    table = allocate_table(memory, (scenario.num_slots, scenario.width), dtype, "cpu")
    with torch.no_grad():
        table.copy_(scenario.initial())
    options = {"master": dtype == torch.bfloat16}
    here, there = LazyRun(scenario, backend, **options), LazyRun(scenario, backend, table=table, **options)
    assert list(tmp_path.iterdir()) == []
    rows = torch.arange(scenario.num_slots)[:, None]
    for i in range(scenario.num_steps):
        assert torch.equal(here.step(i)[0], there.step(i)[0])
        with torch.no_grad():
            one, other = (
                embedding_bag(run.table, rows, torch.ones(len(rows), 1), backend=backend) for run in (here, there)
            )
        assert torch.equal(one, other)
        assert bitwise_equal(here.snapshot(), there.snapshot())
    here.optimizer.flush()
    there.optimizer.flush()
    assert bitwise_equal(here.snapshot(), there.snapshot())
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from memscale.kernels.embedding_bag import embedding_bag
from memscale.kernels.row_adamw import RowAdamW
from memscale.kernels.memory_table import allocate_table
from memscale.kernels.table_placement import TablePlacement

placement, folder = sys.argv[1:]
N, V = 1 << 20, 256

def train(memory, num_slots, num_steps):
    table = allocate_table(memory, (num_slots, V), torch.float32, "cpu")
    for first in range(0, num_slots, 1 << 14):
        rows = torch.arange(first, min(first + (1 << 14), num_slots))
        table.data[rows] = (rows[:, None] % 1000).float().expand(-1, V)
    optimizer = RowAdamW({"t": table}, backend="numba")
    generator = torch.Generator().manual_seed(0)
    moved = []
    for step in range(num_steps):
        slots = torch.randint(num_slots, (512, 4), generator=generator)
        moved.append(slots.flatten())
        out = embedding_bag(table, slots, torch.ones(512, 4))
        out.backward(torch.ones_like(out))
        optimizer.step(0.25)
    rows = torch.cat(moved).unique()
    assert torch.all(table.data[rows] < (rows[:, None] % 1000).float())
    return rows

train(TablePlacement(), 1000, 2)  # what is compiled and loaded counts before the limit
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) << 10
limit = used + (600 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    rows = train(TablePlacement(kind=placement, folder=Path(folder)), N, 4)
except (MemoryError, OSError, RuntimeError) as error:
    print("no memory:", error)
else:
    print("trained", len(rows))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the limit on memory is Linux's")
@pytest.mark.skipif(importlib.util.find_spec("resource") is None, reason="there are no limits on memory")
def test_a_table_larger_than_memory_trains_from_a_file(tmp_path: Path) -> None:
    """1 GB of rows and 2 GB of moments, where 600 MB can be allocated."""
    free = shutil.disk_usage(tmp_path).free
    if free < NEEDED_ROOM:
        pytest.skip(f"{tmp_path} has {free / 1e9:.3g} GB free; this needs {NEEDED_ROOM / 1e9:.3g}")
    printed = {}
    for placement in ("device", "file"):
        command = [sys.executable, "-c", LIMITED, placement, str(tmp_path)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        printed[placement] = done.stdout
    assert "no memory" in printed["device"]
    assert printed["file"].startswith("trained 81")
    assert list(tmp_path.iterdir()) == []


@needs_gpu
def test_a_table_in_host_memory_trains_a_model_on_a_gpu() -> None:
    scenario = Scenario(num_steps=20, dtype=torch.float32, eps=1e-8)
    slots, weights, noise = scenario.draws()
    tables = []
    for placement in ("device", "host"):
        table = allocate_table(
            TablePlacement(kind=placement), (scenario.num_slots, scenario.width), torch.float32, "cuda"
        )
        assert table.device.type == ("cuda" if placement == "device" else "cpu")
        with torch.no_grad():
            table.copy_(scenario.initial())
        optimizer = RowAdamW({"t": table}, weight_decay=0.1)
        for i in range(scenario.num_steps):
            for a in range(len(slots[i])):
                out = embedding_bag(table, slots[i, a].cuda(), weights[i, a].cuda())
                assert out.device.type == "cuda"
                out.backward(noise[i, a].cuda())
            optimizer.step(1e-2)
        optimizer.flush()
        tables.append(table.data.cpu())
    assert max_difference(tables[0], scenario.initial()) > 0.05
    assert max_difference(*tables) <= 1e-5
