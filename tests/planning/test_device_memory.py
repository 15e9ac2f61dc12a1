"""What fits into a device, recounted by trying every number of devices."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memscale.config.architecture import Architecture
from memscale.planning.device_memory import equal_parts, fit_on_device
from memscale.planning.training_memory import Parallelism, training_memory
from tests.planning.architectures import architectures

LENGTH = 2
"""Short, so that weights and optimizer outweigh the activations also in small models."""


def _total(architecture: Architecture, micro_batch: int, batch: int, gpus: int = 1, sharding: str = "none") -> float:
    return training_memory(
        architecture,
        LENGTH,
        micro_batch_sequences=micro_batch,
        batch_sequences=batch,
        parallelism=Parallelism(num_gpus=gpus, sharding=sharding),
        precision="float32",
    ).total


@settings(max_examples=150, deadline=None)
@given(architectures(), st.integers(1, 24), st.floats(0.1, 1.1))
def test_the_remedy_is_the_smallest_there_is(architecture: Architecture, batch: int, share: float) -> None:
    device = share * _total(architecture, 1, batch)
    found = fit_on_device(architecture, LENGTH, batch, device_bytes=device, precision="float32")
    assert found.fits == (_total(architecture, 1, batch) <= device)
    ways = [
        (gpus, order, sharding)
        for gpus in range(2, batch + 1)
        for order, sharding in enumerate(("none", "optimizer", "full"))
        if _total(architecture, 1, batch, gpus, sharding) <= device
    ]
    if found.fits or not ways:
        assert found.remedy is None
        return
    gpus, _, sharding = min(ways)
    remedy = found.remedy
    assert remedy is not None
    assert (remedy.parallelism.num_gpus, remedy.parallelism.sharding) == (gpus, sharding)
    assert remedy.peak_bytes == _total(architecture, remedy.micro_batch_sequences, batch, gpus, sharding) <= device
    own = -(-batch // gpus)
    assert remedy.micro_batch_sequences <= own
    # As few parts as fit: with one part less, a part would be too large.
    parts = -(-own // remedy.micro_batch_sequences)
    if parts > 1:
        assert _total(architecture, -(-own // (parts - 1)), batch, gpus, sharding) > device


@settings(max_examples=60, deadline=None)
@given(architectures(), st.integers(1, 64), st.floats(1.0, 50.0))
def test_a_run_that_fits_takes_a_micro_batch_that_does(architecture: Architecture, batch: int, share: float) -> None:
    device = share * _total(architecture, 1, batch)
    found = fit_on_device(architecture, LENGTH, batch, device_bytes=device, precision="float32")
    assert found.peak_bytes == _total(architecture, found.micro_batch_sequences, batch)
    assert found.peak_bytes <= device
    assert 1 <= found.micro_batch_sequences <= batch


@given(st.integers(1, 500), st.integers(1, 600))
def test_parts_are_as_few_and_as_equal_as_possible(batch: int, most: int) -> None:
    part = equal_parts(batch, most)
    assert 1 <= part <= most
    assert -(-batch // part) == -(-batch // min(most, batch))
    assert part == 1 or -(-batch // (part - 1)) > -(-batch // part)


def test_a_device_of_unknown_memory_takes_the_whole_batch_and_promises_nothing() -> None:
    dense = Architecture(
        family="dense", d_model=32, num_layers=2, num_heads=2, num_kv_heads=2, head_width=16, ffn_hidden=64,
        vocab_size=100,
    )  # fmt: skip
    found = fit_on_device(dense, LENGTH, 12, device_bytes=None, precision="bfloat16")
    assert (found.fits, found.micro_batch_sequences, found.remedy) == (None, 12, None)
    assert found.peak_bytes == pytest.approx(
        training_memory(dense, LENGTH, micro_batch_sequences=12, batch_sequences=12, precision="bfloat16").total
    )
