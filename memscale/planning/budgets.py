"""What a FLOP budget buys: tokens, and how much knowledge the data holds.

Refuses a budget too small for one batch of its own model.
"""

from __future__ import annotations

from dataclasses import replace

from memscale.config.architecture import Architecture
from memscale.config.data import Facts
from memscale.config.sweep import Budget, Scale, Sweep
from memscale.errors import PlanError
from memscale.planning.accounting import TRAINING_PASSES, count
from memscale.planning.matching import dense_architecture


def dense_anchors(sweep: Sweep) -> list[tuple[Budget, Architecture]]:
    """Every budget with its dense model, the smallest budget first."""
    budgets = sorted(sweep.scale.budgets, key=lambda budget: budget.flops)
    return [(budget, dense_architecture(budget, sweep.scale, sweep.data.tokenizer.vocab_size)) for budget in budgets]


def tokens_for(budget: Budget, dense: Architecture, scale: Scale) -> int:
    """The whole number of batches nearest to flops / (3 x forward FLOPs per token), in tokens. Raises PlanError."""
    per_token = TRAINING_PASSES * count(dense, scale.sequence_length).flops_per_token_forward
    batches = round(budget.flops / per_token / scale.batch_tokens)
    if batches < 1:
        raise PlanError(
            f"scale.budgets: {budget.flops:g} FLOPs buy less than one batch of {scale.batch_tokens:,} tokens of the "
            f"dense model with d_model {budget.d_model} and {budget.num_layers} layers; one batch costs "
            f"{per_token * scale.batch_tokens:.3g} FLOPs. Raise the budget, or make its shape or the batch smaller"
        )
    return batches * scale.batch_tokens


def size_knowledge(sweep: Sweep) -> Sweep:
    """Give every `facts` source without `num_people` its number of people.

    The rule: `bits_per_parameter` bits of knowledge for each non-embedding parameter of the smallest dense model.
    """
    _, smallest = dense_anchors(sweep)[0]
    params = count(smallest, sweep.scale.sequence_length).params_non_embedding
    sources = []
    for source in sweep.data.sources:
        if isinstance(source, Facts) and source.num_people is None:
            people = round(source.bits_per_parameter * params / source.bits_per_person)
            if people < 10:
                raise PlanError(
                    f"data.sources.{source.name}: {source.bits_per_parameter:g} bits for each of {params:,} dense "
                    f"parameters make {people} people; at least 10 are needed. Raise bits_per_parameter"
                )
            source = replace(source, num_people=people)
        sources.append(source)
    return replace(sweep, data=replace(sweep.data, sources=tuple(sources)))
