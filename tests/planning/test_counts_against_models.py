"""Counts against the models themselves: 500 random ones of every family, component by component and product by product.

The shapes are tiny; the formulas know no sizes. Most of a random model's cost is the counter's, 20 ms each.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from memscale.config.architecture import FAMILIES, Architecture
from memscale.models.experts import FLOP_FORMULAS
from memscale.models.transformer import Transformer, count_parameters
from memscale.planning.accounting import components, count
from tests.planning.architectures import architectures

pytestmark = pytest.mark.slow

DIFFERENT = 500
"""Of each family that every test meets, at least; the strategies repeat themselves now and then."""


@pytest.mark.parametrize("family", FAMILIES)
def test_every_component_holds_what_the_model_holds(family: str) -> None:
    seen: set[Architecture] = set()

    @settings(max_examples=580, deadline=None, database=None)
    @given(architectures(family))
    def check(a: Architecture) -> None:
        seen.add(a)
        with torch.device("meta"):
            built = count_parameters(Transformer(a))
        counts = count(a, 16)
        planned = {part.name: part.params for part in components(a, 16) if part.params}
        assert planned == dict(built.components)
        assert counts.params_total == built.total
        assert counts.params_non_embedding == built.non_embedding
        assert counts.params_table == built.table

    check()
    assert len(seen) >= DIFFERENT


def products_per_sequence(a: Architecture, s: int) -> float:
    """What torch's counter should find in a forward pass over `s` tokens: ours, except for the two terms below."""
    parts = {part.name: part.flops * s for part in components(a, s)}
    # It counts attention as full, s keys for each of s tokens; ours is causal, (s + 1) / 2 of them on average.
    full, causal = s * s, s * (s + 1) / 2
    parts["attention"] += 4 * a.depth * a.num_heads * a.head_width * (full - causal)
    table = 0
    for keys in (a.memory, a.peer):
        if keys is not None:
            # No matrix products: adding the halves' scores of k x k candidates, the table, and the convolution of the
            # queries' inputs.
            if keys.core_rank is None:
                parts["key_scoring"] -= s * len(keys.layers) * keys.num_heads * keys.knn**2
            if keys.query_conv is not None:
                parts["query_conv"] -= s * len(keys.layers) * 2 * a.d_model * keys.query_conv
            selected = keys.num_heads * keys.knn * len(keys.layers)
            table += s * 2 * selected * (2 * a.d_model if keys is a.peer else a.memory.value_width)
    assert parts.pop("table", 0) == table
    return sum(parts.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_flops_are_those_that_torch_counts(family: str) -> None:
    seen: set[tuple[Architecture, int, int]] = set()

    @settings(max_examples=530, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(architectures(family, most_layers=2), st.integers(1, 2), st.integers(2, 12))
    def check(a: Architecture, sequences: int, s: int) -> None:
        seen.add((a, sequences, s))
        model = Transformer(a)
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                if tensor.is_floating_point():
                    tensor.uniform_(0.5, 1.0)
            # The counter knows the fused attention of GPUs but not the CPU's; in plain products it is counted anywhere.
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=FLOP_FORMULAS) as counter:
                model(torch.randint(a.vocab_size, (sequences, s)))
        assert counter.get_total_flops() == pytest.approx(sequences * products_per_sequence(a, s), rel=1e-9)

    check()
    assert len(seen) >= DIFFERENT
