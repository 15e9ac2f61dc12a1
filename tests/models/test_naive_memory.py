"""Product-key layers of every kind and option against formulas in loops: outputs and all gradients in float64.

The layers agree to 1e-12 relative to the largest value; the bound leaves room for other processors.
"""

from __future__ import annotations

from typing import Any

import naive_memory
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_memory import filled, random
from zoo import memory, peer

from memscale.config.layers import Memory, Peer
from memscale.models.memory import MemoryLayer
from memscale.models.peer import PeerLayer
from tests.planning.architectures import memories, peers

D_MODEL, CLOSE = 7, 1e-10
SMALL: dict[str, Any] = {"num_keys": 5, "num_heads": 2, "knn": 3, "key_width": 6}
PROJECTED: dict[str, Any] = {**SMALL, "gated": False, "projection": True, "value_width": 4}
PARTS: dict[str, Memory | Peer] = {
    "gated": memory(**SMALL, value_width=4),
    "memory_plus, qk-norm": memory(**SMALL, value_width=4, qk_norm=True),
    "pkm": memory(**SMALL, value_width=D_MODEL, gated=False, shared_table=False, query_norm="batch"),
    "pkm, layer norm": memory(**SMALL, value_width=D_MODEL, gated=False, shared_table=False, query_norm="layer"),
    "peer": peer(**SMALL),
    "peer, batch norm": peer(**SMALL, query_norm="batch"),
    "projection": memory(**PROJECTED),
    "no softmax": memory(**SMALL, value_width=4, weights="none"),
    "relu": memory(**{**SMALL, "knn": 5}, value_width=4, weights="relu"),
    "tucker": memory(**SMALL, value_width=4, core_rank=2),
    "tucker, qk-norm": memory(**SMALL, value_width=4, core_rank=3, qk_norm=True),
    "convolution": memory(**SMALL, value_width=4, query_conv=4),
    "expansion": memory(**PROJECTED, expansion=4),
    "expansion, gated": memory(**SMALL, value_width=4, expansion=9),
    "all": memory(**PROJECTED, expansion=4, core_rank=2, query_conv=3, weights="none", query_norm="layer"),
}


def compare(part: Memory | Peer, shape: tuple[int, int], seed: int = 0) -> None:
    layer = filled(PeerLayer(D_MODEL, part, 1e-5) if isinstance(part, Peer) else MemoryLayer(D_MODEL, part, 1e-5))
    x = random(*shape, D_MODEL, seed=seed + 50).requires_grad_()
    table = None
    if isinstance(part, Memory) and part.shared_table:
        table = random(part.num_slots, part.value_width, seed=seed + 51).requires_grad_()
    upstream = random(*shape, D_MODEL, seed=seed + 52)
    leaves = [x, *([] if table is None else [table]), *layer.parameters()]
    results = []
    for output in (layer.train()(x, table, None)[0], naive_memory.layer_output(layer, part, x, table)):
        gradients = torch.autograd.grad((output * upstream).sum(), leaves, allow_unused=True)
        dense = [torch.zeros_like(one) if g is None else g.to_dense() for one, g in zip(leaves, gradients, strict=True)]
        results.append([output.detach(), *dense])
    for fast, naive in zip(*results, strict=True):
        assert (fast - naive).abs().max() <= CLOSE * max(1.0, float(naive.abs().max()))


@pytest.mark.parametrize("name", PARTS)
def test_outputs_and_gradients_are_those_of_the_formulas(name: str) -> None:
    for seed, shape in enumerate([(1, 2), (2, 5), (3, 2)]):
        compare(PARTS[name], shape, seed)


@given(st.data(), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_so_are_those_of_random_layers(data: st.DataObject, seed: int) -> None:
    part = data.draw(st.one_of(memories("memory", D_MODEL, (0,)), peers((0,))))
    if part.num_half_keys <= 12:
        compare(part, (2, 3), seed)


def test_this_comparison_sees_small_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naive_memory, "EPS", 1.1e-5)
    with pytest.raises(AssertionError):
        compare(PARTS["memory_plus, qk-norm"], (2, 5))
