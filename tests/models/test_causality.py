"""What a token's logits may depend on: in evaluation on nothing later, in training as `OPEN_IN_TRAINING` says.

Each claim is tested both ways: the models that are not named see nothing later, and those that are named do.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from memscale.models.transformer import Transformer, build
from tests.models.zoo import ZOO, tokens_of

OPEN_IN_TRAINING = {"moe expert choice", "pkm batch", "peer batch", "peer convolved"}
"""Expert choice: an expert's best tokens of a sequence are known only at its end. Batch norm: all tokens count."""

LENGTH = 24
zoo = pytest.mark.parametrize("name", ZOO)


def ready(name: str, *, training: bool) -> Transformer:
    """A model whose running statistics and biases, where it has such, are those of a few batches, not the initial."""
    model = build(ZOO[name], seed=3, dtype=torch.float64).train()
    with torch.no_grad():
        for seed in range(3):
            model(tokens_of(model.architecture, (4, LENGTH), seed=100 + seed))
            for block in model.blocks:
                if hasattr(block.slot, "after_step"):
                    block.slot.after_step()
    return model.train(training)


@torch.no_grad()
def largest_change_before(model: Transformer, tokens_BS: Tensor, changed_BS: Tensor, position: int) -> float:
    """How far the logits before `position` move when the tokens from there on are others."""
    before, after = (model(given_BS).logits_BSV[:, :position] for given_BS in (tokens_BS, changed_BS))
    return float((after - before).abs().max())


@zoo
def test_in_evaluation_no_later_token_changes_an_earlier_logit(name: str) -> None:
    model = ready(name, training=False)
    tokens_BS = tokens_of(model.architecture, (2, LENGTH))
    with torch.no_grad():
        logits_BSV = model(tokens_BS).logits_BSV
    for position in range(1, LENGTH):
        for seed in range(2):
            changed_BS = tokens_BS.clone()
            changed_BS[:, position:] = tokens_of(model.architecture, (2, LENGTH - position), seed=10 + seed)
            changed_BS[:, position] = (tokens_BS[:, position] + 1) % model.architecture.vocab_size
            assert largest_change_before(model, tokens_BS, changed_BS, position) < 1e-12
            with torch.no_grad():  # and the change is seen where it may be
                seen = (model(changed_BS).logits_BSV - logits_BSV)[:, position].abs().amax(-1)
            assert (seen > 1e-3).all()


@zoo
def test_in_evaluation_no_other_sequence_changes_a_logit(name: str) -> None:
    model = ready(name, training=False)
    tokens_BS = tokens_of(model.architecture, (5, LENGTH))
    with torch.no_grad():
        together = model(tokens_BS).logits_BSV
        for row in range(len(tokens_BS)):
            torch.testing.assert_close(model(tokens_BS[row : row + 1]).logits_BSV[0], together[row], rtol=0, atol=1e-12)


@zoo
def test_in_training_exactly_the_named_let_a_later_token_in(name: str) -> None:
    model = ready(name, training=True)
    tokens_BS = tokens_of(model.architecture, (1, LENGTH))
    largest = 0.0
    for seed in range(8):
        changed_BS = tokens_BS.clone()
        changed_BS[:, LENGTH // 2 :] = tokens_of(model.architecture, (1, LENGTH // 2), seed=20 + seed)
        largest = max(largest, largest_change_before(model, tokens_BS, changed_BS, LENGTH // 2))
    if name in OPEN_IN_TRAINING:
        assert largest > 1e-3
    else:
        assert largest < 1e-12


@zoo
def test_a_model_says_itself_when_later_tokens_get_in(name: str) -> None:
    model = build(ZOO[name], seed=0)
    assert model.is_noncausal(training=True) == (name in OPEN_IN_TRAINING)
    assert model.architecture.trains_causally == (name not in OPEN_IN_TRAINING)  # what the records say of it
    assert not model.is_noncausal(training=False)
