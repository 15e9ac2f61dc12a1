"""How many micro-batches and processes a batch is divided into changes weights by rounding alone, in every family."""

from __future__ import annotations

import multiprocessing
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SEQUENCE_LENGTH, architecture
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memscale.config.architecture import Architecture
from memscale.config.optimizer import Optimizer
from memscale.models.transformer import Transformer, build
from memscale.training import micro_batch
from memscale.training.batch_balance import BatchBalance
from memscale.training.buffers import after_step_hooks, persistent_buffers
from memscale.training.distributed import SINGLE_PROCESS, ProcessGroup, init_process_group
from memscale.training.micro_batch import accumulate_gradients
from memscale.training.optimizers import build_optimizer
from tests.planning.architectures import architectures

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["memscale.training.trainer", "pytest", "torch._dynamo", "sympy"])
SEQUENCES = 8
NUM_STEPS = 3
FAMILIES = ("dense", "moe", "moe_bias", "moe_choice", "moe_hash", "pkm", "memory", "memory_plus", "peer_layer")
BATCH_NORMED = ("pkm_batch", "peer")
"""A batch norm is over the processes, but not over several micro-batches."""
ROUNDING = {"rtol": 1e-5, "atol": 1e-7}
"""The loss is taken in float32; the weights, of order one, are in float64, and moved by about 1e-2 a step."""


def of_family(name: str) -> Architecture:
    """A model whose balance loss, where it has one, counts as much as the tokens' loss."""
    if name == "peer_layer":
        a = architecture("peer")
        assert a.peer is not None
        return replace(a, peer=replace(a.peer, query_norm="layer"))
    return architecture(name, balance_weight=1.0)


def tokens_of(a: Architecture, step: int, sequences: int = SEQUENCES, length: int = SEQUENCE_LENGTH) -> Tensor:
    """Sequences of unlike tokens, so that their loads differ: each has a few ids of its own."""
    generator = torch.Generator().manual_seed(step)
    few = torch.randint(a.vocab_size, (sequences, 4), generator=generator)
    return few.gather(1, torch.randint(4, (sequences, length + 1), generator=generator))


def trained(name: str, sequences: int, group: ProcessGroup = SINGLE_PROCESS) -> dict[str, Tensor]:
    """The weights and buffers after a few steps, in float64, as the trainer takes them."""
    a = of_family(name)
    model = build(a, seed=0, dtype=torch.float64).train()
    config = Optimizer(learning_rate=1e-2, table_learning_rate=1e-2 if a.has_table else None)
    optimizer, hooks = build_optimizer(model, config), after_step_hooks(model)
    for step in range(NUM_STEPS):
        tokens_BT = group.shard(tokens_of(a, step))
        balance = BatchBalance(model, group.sum_counts)
        loss = accumulate_gradients(model, tokens_BT, sequences, SEQUENCES, balance)
        group.all_reduce_gradients(model, optimizer, loss)
        optimizer.clip(1.0)
        optimizer.step(1.0)
        for hook in hooks:
            hook()
        optimizer.clear_gradients()
    optimizer.flush()
    named = {**dict(model.named_parameters()), **persistent_buffers(model)}
    return {name: value.detach().clone() for name, value in named.items()}


def check_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **ROUNDING, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("family", FAMILIES)
def test_micro_batches_change_weights_by_rounding_alone(family: str) -> None:
    whole = trained(family, SEQUENCES)
    for sequences in (1, 2, 4):
        check_same(trained(family, sequences), whole)


def member(rank: int, size: int, port: int, sequences: int, families: tuple[str, ...], folder: Path) -> None:
    """Be one of the processes, and leave the weights of every family in `folder`."""
    torch.set_num_threads(1)
    names = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    group, _ = init_process_group("cpu")
    torch.save({family: trained(family, sequences, group) for family in families}, folder / f"{rank}.pt")
    group.barrier()


@pytest.mark.parametrize(
    ("size", "sequences", "families"),
    [(2, 4, (*FAMILIES, *BATCH_NORMED)), (3, 2, FAMILIES), (3, 3, BATCH_NORMED)],
    ids=["a part each", "several parts of unequal shares", "unequal shares in a part each"],
)
def test_processes_change_weights_by_rounding_alone(
    tmp_path: Path, size: int, sequences: int, families: tuple[str, ...]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = (size, port, sequences, families, tmp_path)
    members = [PROCESSES.Process(target=member, args=(rank, *given)) for rank in range(size)]
    for process in members:
        process.start()
    for process in members:
        process.join(timeout=300)
    assert [process.exitcode for process in members] == [0] * size
    left = [torch.load(tmp_path / f"{rank}.pt") for rank in range(size)]
    for family in families:
        for other in left[1:]:
            assert all(torch.equal(other[family][name], value) for name, value in left[0][family].items())
        check_same(left[0][family], trained(family, SEQUENCES))


def gradients(model: Transformer, tokens_BT: Tensor, sequences: int) -> tuple[dict[str, Tensor], float]:
    """The gradients of all parameters, and the auxiliary loss."""
    optimizer = build_optimizer(
        model, Optimizer(learning_rate=1.0, table_learning_rate=1.0, table_optimizer="dense_adamw")
    )
    optimizer.clear_gradients()
    loss = accumulate_gradients(model, tokens_BT, sequences)
    return {name: value.grad.clone() for name, value in model.named_parameters()}, loss.auxiliary.item()


@pytest.mark.parametrize("runs_out_at", [1, 2, 3])
def test_a_batch_that_is_taken_again_in_smaller_parts_waits_for_no_other_process(
    runs_out_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU runs out of memory at some forward pass with gradients; the loads are summed over the processes once."""
    model, tokens_BT, sums, calls = (build(of_family("moe"), seed=0), tokens_of(of_family("moe"), 0), [], [])
    whole, auxiliary = gradients(model, tokens_BT, SEQUENCES)
    healthy = micro_batch.token_nats

    def small_gpu(*given: Tensor) -> Tensor:
        calls.append(given)
        if len(calls) == runs_out_at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return healthy(*given)

    balance = BatchBalance(model, sums.append)
    monkeypatch.setattr(micro_batch, "token_nats", small_gpu)
    with pytest.raises(torch.OutOfMemoryError):
        accumulate_gradients(model, tokens_BT, 3, SEQUENCES, balance)
    model.zero_grad()
    loss = accumulate_gradients(model, tokens_BT, 2, SEQUENCES, balance)
    assert len(sums) == 1
    assert loss.auxiliary.item() == pytest.approx(auxiliary, rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-4, atol=1e-6)


@given(st.one_of(architectures(), architectures("moe")), st.integers(2, 6), st.data())
@settings(max_examples=100, deadline=None)
def test_any_architecture_has_one_gradient_however_its_batch_is_divided(
    a: Architecture, sequences: int, data: st.DataObject
) -> None:
    """All but batch-normalised queries, which have a mean of their own in every part."""
    keyed = a.memory or a.peer
    if keyed is not None and keyed.query_norm == "batch":
        return
    model = build(a, seed=0, dtype=torch.float64).train()
    tokens_BT = tokens_of(a, 0, sequences, length=9)
    whole, auxiliary = gradients(model, tokens_BT, sequences)
    parts, of_parts = gradients(model, tokens_BT, data.draw(st.integers(1, sequences - 1)))
    assert of_parts == pytest.approx(auxiliary, rel=1e-6)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-5, atol=1e-6)
