"""Every quantity of the matching section equals the number that it names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from memscale.config.architecture import Architecture
from memscale.config.matching import PER_TOKEN, SPARSE_EQUAL
from memscale.errors import ConfigError
from memscale.planning.accounting import components
from memscale.planning.quantities import WORDS, measure
from memscale.planning.training_memory import training_memory
from memscale.planning.weight_bytes import decode_bytes
from tests.planning.architectures import architectures


@settings(max_examples=200, deadline=None)
@given(architectures())
def test_each_word_is_the_sum_over_components_it_says(a: Architecture) -> None:
    parts = {part.name: part for part in components(a, 24)}
    total = sum(part.params for part in parts.values())
    flops = sum(part.flops for part in parts.values())
    table = parts["table"].params if "table" in parts else 0
    reaches: dict[int, int] = {}  # of convolved queries: earlier inputs that a layer's longest convolution reads
    for part in (a.memory, a.peer):
        for layer in part.layers if part is not None and part.query_conv is not None else ():
            reaches[layer] = max(reaches.get(layer, 0), part.query_conv - 1)
    keys_and_values = 2 * len(a.applied_layers) * a.num_kv_heads * a.head_width * 24
    expected = {
        "flops_per_token": flops,
        "active_params": sum(part.active for part in parts.values()),
        "total_params": total,
        "non_embedding_params": total - parts["embedding"].params - parts["lm_head"].params,
        "table_params": table,
        "decode_bytes": decode_bytes(a, 24),
        "kv_cache_bytes": 2 * (keys_and_values + sum(min(24, reach) * a.d_model for reach in reaches.values())),
        "training_memory": training_memory(a, 24).total,
        "seconds_per_token": 3 * flops / 5e9,
    }
    assert {word: measure(word, a, 24, flops_per_second=5e9) for word in WORDS} == pytest.approx(expected, rel=1e-12)
    assert set(WORDS) == {*PER_TOKEN, *SPARSE_EQUAL}


@settings(max_examples=1, deadline=None)
@given(architectures("peer"))
def test_what_cannot_be_measured_is_refused_with_what_to_do(a: Architecture) -> None:
    with pytest.raises(ConfigError, match=r"valid: flops_per_token, .*Did you mean 'total_params'\?"):
        measure("total_parms", a, 24)
    with pytest.raises(ConfigError, match=r"family 'peer'.* matching\.throughput"):
        measure("seconds_per_token", a, 24)
