"""Parts of a batch: their gradient is the batch's, and their size follows memory."""

from __future__ import annotations

import pytest
import torch
from conftest import SEQUENCE_LENGTH, architecture
from hypothesis import given
from hypothesis import strategies as st

from memscale.models.transformer import build
from memscale.training import micro_batch
from memscale.training.micro_batch import OutOfMemoryError, accumulate_gradients, halved, max_micro_batch

MODEL = build(architecture("dense"), seed=0)
TOKENS_BT = torch.randint(0, 300, (7, SEQUENCE_LENGTH + 1), generator=torch.Generator().manual_seed(3))


def gradients(family: str, micro_batch_sequences: int) -> tuple[dict[str, torch.Tensor], float]:
    model = build(architecture(family, balance_weight=1.0), seed=0)
    loss = accumulate_gradients(model, TOKENS_BT, micro_batch_sequences)
    named = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return named, loss.nats_per_token.item()


@pytest.mark.parametrize(
    "family", ["dense", "moe", "moe_bias", "moe_choice", "moe_hash", "memory_plus", "looped", "mixture"]
)
@pytest.mark.parametrize("micro_batch_sequences", [1, 3, 6, 100])
def test_parts_give_the_gradient_of_the_whole(family: str, micro_batch_sequences: int) -> None:
    whole, whole_loss = gradients(family, TOKENS_BT.shape[0])
    parts, parts_loss = gradients(family, micro_batch_sequences)
    assert parts_loss == pytest.approx(whole_loss, rel=1e-5)
    assert parts.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_loss_is_the_mean_negative_log_probability() -> None:
    model = build(architecture("dense"), seed=0)
    loss = accumulate_gradients(model, TOKENS_BT, 7).nats_per_token.item()
    with torch.no_grad():
        probabilities_BSV = model(TOKENS_BT[:, :-1]).logits_BSV.double().softmax(-1)
    picked_BS = probabilities_BSV.gather(-1, TOKENS_BT[:, 1:, None])[..., 0]
    assert loss == pytest.approx(-picked_BS.log().mean().item(), rel=1e-5)


@given(batch=st.integers(1, 64), room=st.integers(0, 80), rest=st.floats(0.0, 0.9))
def test_as_few_parts_as_memory_allows(batch: int, room: int, rest: float) -> None:
    model, per_sequence = MODEL, micro_batch.activation_bytes(MODEL, SEQUENCE_LENGTH)
    # A sequence needs twice its activations, and half of the free memory may be used.
    free_bytes = int((room + rest) * 4 * per_sequence) + 1
    if room == 0:
        with pytest.raises(OutOfMemoryError, match="fewer slots"):
            max_micro_batch(model, SEQUENCE_LENGTH, batch, free_bytes=free_bytes)
        return
    size = max_micro_batch(model, SEQUENCE_LENGTH, batch, free_bytes=free_bytes)
    assert 1 <= size <= min(room, batch)
    fewest = -(-batch // min(room, batch))
    assert -(-batch // size) == fewest
    assert size == 1 or -(-batch // (size - 1)) > fewest  # the smallest size for that number: the most equal parts


@pytest.mark.parametrize("family", ["dense", "moe", "memory_plus"])
def test_activation_bytes_cover_what_is_really_saved(family: str) -> None:
    """Grows in proportion to the length (attention saves no square), leaves gradients alone, holds the logits."""
    model = build(architecture(family), seed=0)
    short, long = (micro_batch.activation_bytes(model, length) for length in (32, 64))
    assert 1.6 * short < long < 2.4 * short
    assert short > 32 * 300 * 4
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_gpu_without_room_gets_half_the_sequences_down_to_one() -> None:
    full = torch.OutOfMemoryError("CUDA out of memory")
    assert [halved(size, full) for size in (11, 6, 3, 2)] == [6, 3, 2, 1]
    with pytest.raises(OutOfMemoryError, match="one sequence"):
        halved(1, full)
