"""The memory formula against what a training step really keeps, allocates and adds up."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from memscale.config.architecture import Architecture
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.loop import Loop
from memscale.config.optimizer import Optimizer
from memscale.config.token_layers import NGram, TokenTable
from memscale.errors import ConfigError
from memscale.models.transformer import build
from memscale.planning.accounting import count
from memscale.planning.training_memory import Parallelism, saved_bytes, training_memory
from memscale.training.micro_batch import accumulate_gradients, token_nats
from memscale.training.optimizers import build_optimizer
from tests.planning.architectures import architectures

DENSE = Architecture(
    family="dense", d_model=64, num_layers=4, num_heads=4, num_kv_heads=2, head_width=16, ffn_hidden=160, vocab_size=700
)
KEYS = {"num_keys": 24, "num_heads": 4, "knn": 8, "key_width": 32}
MODELS = {
    "dense": DENSE,
    "moe": replace(
        DENSE,
        family="moe",
        moe=MoE(layers=(0, 1, 2, 3), num_experts=8, experts_per_token=2, expert_hidden=80, shared_experts=1),
    ),
    "memory_plus": replace(
        DENSE, family="memory_plus", memory=Memory(layers=(1, 3), **KEYS, value_width=64, qk_norm=True)
    ),
    "pkm": replace(
        DENSE,
        family="pkm",
        memory=Memory(layers=(2,), **KEYS, value_width=64, gated=False, shared_table=False, query_norm="batch"),
    ),
    "memory_plus beside": replace(
        DENSE,
        family="memory_plus",
        memory=Memory(layers=(1, 3), **KEYS, value_width=64, qk_norm=True, place="beside"),
    ),
    "memory projected": replace(
        DENSE, family="memory", memory=Memory(layers=(1, 3), **KEYS, value_width=32, gated=False, projection=True)
    ),
    "memory tucker": replace(
        DENSE, family="memory", memory=Memory(layers=(1, 3), **KEYS, value_width=64, gated=False, core_rank=2)
    ),
    "memory convolved": replace(
        DENSE, family="memory", memory=Memory(layers=(1, 3), **KEYS, value_width=64, gated=False, query_conv=4)
    ),
    "memory convolved beside": replace(
        DENSE,
        family="memory",
        memory=Memory(layers=(1, 3), **KEYS, value_width=64, gated=False, query_conv=4, place="beside"),
    ),
    "memory_plus convolved beside": replace(
        DENSE,
        family="memory_plus",
        memory=Memory(layers=(1, 3), **KEYS, value_width=64, query_conv=4, place="beside"),
    ),
    "memory expanded": replace(
        DENSE,
        family="memory",
        memory=Memory(layers=(1, 3), **KEYS, value_width=32, gated=False, projection=True, expansion=4),
    ),
    "memory_plus expanded": replace(
        DENSE, family="memory_plus", memory=Memory(layers=(1, 3), **KEYS, value_width=32, expansion=4)
    ),
    "peer": replace(DENSE, family="peer", peer=Peer(layers=(2,), **KEYS, query_norm="layer")),
    "ngram": replace(DENSE, family="ngram", ngram=NGram(layers=(1, 2), num_heads=4, rows_per_head=97, row_width=12)),
    "ngram, convolution": replace(
        DENSE,
        family="ngram",
        ngram=NGram(layers=(0, 2), num_heads=4, rows_per_head=97, row_width=12, conv_width=4, signed_root=False),
    ),
    "token table, gated": replace(DENSE, family="token_table", token_table=TokenTable(layers=(0, 1, 2), row_width=40)),
    "token table, up": replace(
        DENSE, family="token_table", token_table=TokenTable(layers=(0, 1, 2), use="up", row_width=160)
    ),
    "token table, values": replace(
        DENSE, family="token_table", token_table=TokenTable(layers=(0, 1, 2), use="values", row_width=32)
    ),
    "mixture": replace(
        DENSE,
        family="mixture",
        moe=MoE(layers=(0, 1), num_experts=8, experts_per_token=2, expert_hidden=80),
        memory=Memory(layers=(2, 3), **KEYS, value_width=64, qk_norm=True),
        ngram=NGram(layers=(1,), num_heads=4, rows_per_head=97, row_width=12),
    ),
    "experts, memory beside": replace(
        DENSE,
        family="mixture",
        moe=MoE(layers=(0, 1), num_experts=8, experts_per_token=2, expert_hidden=80, shared_experts=1),
        memory=Memory(layers=(0, 1, 3), **KEYS, value_width=64, place="beside"),
    ),
    "hash experts, PEER beside": replace(
        DENSE,
        family="mixture",
        moe=MoE(
            layers=(0, 1),
            num_experts=8,
            experts_per_token=2,
            expert_hidden=80,
            routing="hash",
            renormalise=False,
            balance="none",
            z_weight=0.0,
        ),
        peer=Peer(layers=(0, 2), **KEYS, query_conv=4, place="beside"),
    ),
    "experts, PEER beside": replace(
        DENSE,
        family="mixture",
        moe=MoE(layers=(0, 1), num_experts=8, experts_per_token=2, expert_hidden=80),
        peer=Peer(layers=(0, 1), **KEYS, place="beside"),
    ),
    "PEER, memory beside": replace(
        DENSE,
        family="mixture",
        peer=Peer(layers=(0, 1), **KEYS, core_rank=2),
        memory=Memory(layers=(0, 1), **KEYS, value_width=64, gated=False, query_conv=4, place="beside", skip=1),
    ),
    "memory, PEER beside": replace(
        DENSE,
        family="mixture",
        memory=Memory(layers=(0, 1), **KEYS, value_width=64),
        peer=Peer(layers=(0, 1), **KEYS, query_conv=4, place="beside", skip=1),
        token_table=TokenTable(layers=(0,), row_width=40),
    ),
    "looped": replace(DENSE, family="looped", loop=Loop(prelude=1, recurrent=2, coda=1, recurrences=3)),
    "looped, no injection": replace(
        DENSE, family="looped", loop=Loop(prelude=0, recurrent=3, coda=1, recurrences=2, injection="none")
    ),
}


def really_saved(a: Architecture, s: int, sequences: int, precision: str) -> int:
    """Bytes of all tensors that the forward pass and its loss save, each storage once; parameters are not counted."""
    model = build(a, seed=0)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # held, so that no later one gets its address
        return tensor

    tokens = torch.arange(sequences * (s + 1)).view(sequences, -1) % a.vocab_size
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16")
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), autocast:
        output = model(tokens[:, :-1])
        loss = token_nats(output.logits_BSV, tokens[:, 1:]) + output.auxiliary_loss
    assert loss.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


def only_on_the_cpu(a: Architecture) -> int:
    """Bytes per token that autocast on the CPU keeps beyond autocast on a GPU, which the formula is for.

    RMSNorm is one op on a GPU, and several on the CPU, which keep their result in float32.
    """
    norms = 2 * a.depth + 1
    if a.ngram is not None:
        norms += len(a.ngram.layers) * (3 if a.ngram.conv_width else 2)
    if a.token_table is not None and a.token_table.use == "gated":
        norms += len(a.token_table.layers)
    more = 4 * norms * a.d_model
    for keys in (a.memory, a.peer):
        if keys is not None:
            normed = 2 * keys.key_width if keys.qk_norm else 0  # in float32 instead of bfloat16
            more += len(keys.layers) * keys.num_heads * normed
    return more


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_saved_for_the_backward_pass_is_what_the_formula_says(name: str, precision: str) -> None:
    a, s, sequences = MODELS[name], 48, 3
    predicted = saved_bytes(a, s, sequences, precision)
    if precision == "bfloat16":
        predicted += sequences * s * only_on_the_cpu(a)
    assert predicted == pytest.approx(really_saved(a, s, sequences, precision), rel=0.01)


def test_the_positions_turns_are_kept_once_for_all_sequences() -> None:
    twice = 2 * saved_bytes(DENSE, 16, 1, "float32") - saved_bytes(DENSE, 16, 2, "float32")
    assert twice == 16 * (DENSE.head_width // 2) * 8  # a complex number per position and pair


@settings(max_examples=150, deadline=None)
@given(architectures(), st.sampled_from(["float32", "bfloat16"]))
def test_the_formula_holds_for_every_family_and_option(a: Architecture, precision: str) -> None:
    s, sequences = 32, 2
    predicted = saved_bytes(a, s, sequences, precision)
    if precision == "bfloat16":
        predicted += sequences * s * only_on_the_cpu(a)
    assert predicted == pytest.approx(really_saved(a, s, sequences, precision), rel=0.15)


@pytest.mark.parametrize("name", ["dense", "moe", "memory_plus", "peer", "looped"])
def test_memory_peaks_where_the_formula_says(name: str) -> None:
    """The most that torch holds at a time in a forward and a backward pass; gradients come only as activations go."""
    a, s, sequences = MODELS[name], 64, 8
    model = build(a, seed=0)
    tokens = torch.arange(sequences * (s + 1)).view(sequences, -1) % a.vocab_size
    accumulate_gradients(model, tokens, sequences)
    model.zero_grad(set_to_none=True)
    gc.collect()  # else what earlier tests left might be freed meanwhile
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        accumulate_gradients(model, tokens, sequences)
    assert profiled.profiler is not None
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    memory = training_memory(a, s, micro_batch_sequences=sequences, precision="float32")
    assert memory.activations == pytest.approx(peak, rel=0.05)


TABLES = {"layers": (1, 3), "num_keys": 100, "num_heads": 4, "knn": 8, "key_width": 32}


@pytest.mark.parametrize(
    "a",
    [
        replace(DENSE, family="memory_plus", memory=Memory(**TABLES, value_width=64)),
        replace(DENSE, family="memory_plus", memory=Memory(**{**TABLES, "layers": (1,)}, value_width=64)),
        replace(DENSE, family="pkm", memory=Memory(**TABLES, value_width=64, gated=False, shared_table=False)),
        replace(DENSE, family="peer", peer=Peer(**TABLES)),
        replace(DENSE, family="memory_plus", memory=Memory(**TABLES, value_width=64, expansion=4)),
    ],
    ids=["shared by two layers", "of one layer", "one per layer", "two per layer", "expanded"],
)
def test_a_tables_gradient_is_its_reads_or_the_sums_where_these_are_less(a: Architecture) -> None:
    model = build(a, seed=0)
    optimizer = build_optimizer(model, Optimizer(learning_rate=1e-3, table_learning_rate=1e-3))
    assert optimizer.rows is not None
    for sequences in (1, 3, 400):
        tokens = torch.randint(a.vocab_size, (sequences, 17), generator=torch.Generator().manual_seed(0))
        accumulate_gradients(model, tokens, 2)
        tensors = [tensor for table in optimizer.rows.tables.values() for tensor in table.gradient.tensors()]
        storages = {tensor.untyped_storage().data_ptr(): tensor.nbytes for tensor in tensors}
        counts = count(a, 16)
        planned = training_memory(a, 16, micro_batch_sequences=2, batch_sequences=sequences).gradients
        kept = planned - 4 * (counts.params_total - counts.params_table)
        if sequences < 400:
            assert kept == pytest.approx(sum(storages.values()), rel=0.01)
        else:  # a bound: not all rows were touched, and the last parts may have been summed already
            assert 4 * counts.params_table / 2 < sum(storages.values()) < kept < 3 * 4 * counts.params_table
        optimizer.clear_gradients()


@pytest.mark.parametrize("matrix_optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("name", MODELS)
def test_states_are_those_of_the_optimizer(name: str, matrix_optimizer: str) -> None:
    model = build(MODELS[name], seed=0)
    config = Optimizer(learning_rate=1e-3, table_learning_rate=1e-3, matrix_optimizer=matrix_optimizer)
    optimizer = build_optimizer(model, config)
    moments = sum(tensor.nbytes for tensor in optimizer.state().values())
    weights = sum(parameter.nbytes for parameter in model.parameters())
    memory = training_memory(MODELS[name], 16, matrix_optimizer=matrix_optimizer)
    assert (memory.weights, memory.optimizer) == (weights, moments)


@settings(max_examples=100, deadline=None)
@given(architectures(), st.integers(2, 64), st.integers(1, 8))
@example(DENSE, 8, 2)
def test_gpus_share_out_what_their_sharding_says(a: Architecture, num_gpus: int, sequences: int) -> None:
    def memory(sharding: str, gpus: int = num_gpus) -> tuple[float, float, float, float]:
        found = training_memory(
            a, 16, micro_batch_sequences=sequences, parallelism=Parallelism(num_gpus=gpus, sharding=sharding)
        )
        assert found.total == found.weights + found.gradients + found.optimizer + found.activations
        return found.weights, found.gradients, found.optimizer, found.activations

    alone = memory("none", 1)
    assert memory("none") == memory("optimizer", 1) == memory("full", 1) == alone
    weights, gradients, optimizer, activations = alone
    assert memory("optimizer") == (weights, gradients, optimizer / num_gpus, activations)
    counts = count(a, 16)
    dense = 4 * (counts.params_total - counts.params_table)
    reads = gradients - dense  # whole on every GPU
    assert memory("full") == pytest.approx(
        (weights / num_gpus, dense / num_gpus + reads, optimizer / num_gpus, activations)
    )
    assert weights == 4 * counts.params_total
    rows = 0
    if a.memory is not None:
        rows += a.memory.num_tables * a.memory.num_keys**2
    if a.peer is not None:
        rows += len(a.peer.layers) * 2 * a.peer.num_keys**2
    if a.ngram is not None:
        rows += sum(a.ngram.table_rows(which) for which in range(len(a.ngram.layers)))
    if a.token_table is not None:
        rows += len(a.token_table.layers) * a.vocab_size
    assert optimizer == 2 * weights + 2 * 4 * rows
    more = training_memory(a, 16, micro_batch_sequences=2 * sequences)
    assert more.activations < 2 * activations  # copies of matrices and positions are there once
    assert replace(more, activations=activations, gradients=gradients) == training_memory(
        a, 16, micro_batch_sequences=sequences
    )


def test_numbers_and_words_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_gpus is 0"):
        Parallelism(num_gpus=0)
    with pytest.raises(ConfigError, match=r"sharding is 'ful'; valid: none, optimizer, full\. Did you mean 'full'\?"):
        Parallelism(sharding="ful")
    with pytest.raises(ConfigError, match="micro_batch_sequences is 0"):
        training_memory(DENSE, 16, micro_batch_sequences=0)
    with pytest.raises(ConfigError, match="matrix_optimizer is 'sgd'; valid: adamw, muon"):
        training_memory(DENSE, 16, matrix_optimizer="sgd")
    with pytest.raises(ConfigError, match="precision is 'float16'"):
        training_memory(DENSE, 16, precision="float16")
