"""Several processes train what one trains, to rounding, and their copies of the model stay equal to the bit."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_run
from train_subprocess import do

from memscale.data.prepared import Prepared
from memscale.errors import ConfigError
from memscale.records.layout import RunPaths
from memscale.records.metrics import read_metrics
from memscale.training.buffers import persistent_buffers
from memscale.training.distributed import PeerLostError, ProcessGroup, init_process_group
from memscale.training.trainer import Execution, train

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["memscale.training.trainer", "pytest", "torch._dynamo", "sympy"])
NUM_STEPS = 12
NEVER = 10**9


def member(
    rank: int, size: int, port: int, data_folder: Path, root: Path, family: str, stop_after: int, die_after: int,
    how: dict[str, Any],
) -> None:  # fmt: skip
    """Be one of the processes; leave a digest of the model, or of what went wrong, in `root`/<rank>."""
    torch.set_num_threads(1)
    names = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    process_group, device = init_process_group("cpu")
    prepared = Prepared.open(data_folder)
    calls = itertools.count()

    def should_stop() -> bool:
        call = next(calls)
        if rank > 0 and call == die_after:
            os._exit(9)
        return call == stop_after

    try:
        trained = train(
            tiny_run(prepared, family, num_steps=NUM_STEPS), RunPaths(root), prepared,
            Execution(device=device, **how), on_progress=lambda _: None,
            should_stop=should_stop, process_group=process_group,
        )  # fmt: skip
    except PeerLostError as error:
        (root / str(rank)).write_text(f"lost {error}")
        return
    digest = hashlib.sha256()
    for tensor in (*trained.model.parameters(), *persistent_buffers(trained.model).values()):
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    (root / str(rank)).write_text(f"{trained.status} {digest.hexdigest()}")
    process_group.barrier()


def together(
    size: int, data_folder: Path, root: Path, family: str, *, stop_after: int = NEVER, die_after: int = NEVER,
    **how: int | float | str,
) -> list[str]:  # fmt: skip
    """Train with `size` processes; return what each left."""
    root.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    members = [
        PROCESSES.Process(target=member, args=(i, size, port, data_folder, root, family, stop_after, die_after, how))
        for i in range(size)
    ]
    for process in members:
        process.start()
    for process in members:
        process.join(timeout=120)
    assert not any(process.is_alive() for process in members)
    return [path.read_text() for i in range(size) if (path := root / str(i)).exists()]


def figures(root: Path) -> dict[tuple[int, str, str], float]:
    found = [((one.step, one.split, one.name), one.value) for one in read_metrics(RunPaths(root).metrics)]
    assert len(dict(found)) == len(found), "a figure is there twice"
    return dict(found)


def check_close(root: Path, expected: Path) -> None:
    ours, theirs = figures(root), figures(expected)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if "used_share" not in key[2]:
            assert ours[key] == pytest.approx(value, rel=2e-2, abs=1e-6), key


@pytest.mark.parametrize(
    "family",
    [
        "dense",
        "moe",
        "moe_bias",
        "moe_choice",
        "moe_hash",
        "pkm_batch",
        "memory_plus",
        "memory_ultramem",
        "peer",
        "moe_muon",
        "looped",
        "mixture",
    ],
)
@pytest.mark.slow
def test_two_processes_train_what_one_does_with_two_micro_batches(
    tmp_path: Path, prepared: Prepared, family: str
) -> None:
    left = together(2, prepared.folder, tmp_path / "two", family)
    assert len(left) == 2
    assert left[0].startswith("done")
    assert left[0] == left[1]
    # A batch norm is over both processes, but over one micro-batch alone.
    sizes = {} if family in ("pkm_batch", "peer") else {"micro_batch_sequences": 3}
    do(tiny_run(prepared, family, num_steps=NUM_STEPS), tmp_path / "one", prepared, **sizes)
    check_close(tmp_path / "two", tmp_path / "one")


def test_shares_of_a_batch_need_not_be_equal(tmp_path: Path, prepared: Prepared) -> None:
    left = together(4, prepared.folder, tmp_path / "four", "memory_plus_averaged", table_memory="file")
    assert len(left) == 4
    assert len(set(left)) == 1
    do(tiny_run(prepared, "memory_plus_averaged", num_steps=NUM_STEPS), tmp_path / "one", prepared)
    check_close(tmp_path / "four", tmp_path / "one")


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path, prepared: Prepared) -> None:
    left = together(3, prepared.folder, tmp_path / "some", "memory_plus", stop_after=5)
    assert left[0].startswith("stopped")
    assert len(set(left)) == 1
    left = together(2, prepared.folder, tmp_path / "some", "memory_plus", checkpoint_seconds=1e-9)
    assert left[0] == left[1]
    do(tiny_run(prepared, "memory_plus", num_steps=NUM_STEPS), tmp_path / "one", prepared)
    check_close(tmp_path / "some", tmp_path / "one")


def test_who_is_left_alone_says_so_and_goes_on_from_the_checkpoint(tmp_path: Path, prepared: Prepared) -> None:
    (message,) = together(2, prepared.folder, tmp_path / "two", "dense", die_after=7, checkpoint_seconds=1e-9)
    assert message.startswith("lost another process of this run is gone")
    assert together(2, prepared.folder, tmp_path / "two", "dense")[0].startswith("done")
    do(tiny_run(prepared, "dense", num_steps=NUM_STEPS), tmp_path / "one", prepared)
    check_close(tmp_path / "two", tmp_path / "one")


def test_a_batch_too_small_for_its_processes_is_refused() -> None:
    with pytest.raises(ConfigError, match="6 sequences, too few for 7 processes"):
        ProcessGroup(rank=0, size=7).max_local_batch(6)
    assert ProcessGroup(rank=0, size=4).max_local_batch(6) == 2
