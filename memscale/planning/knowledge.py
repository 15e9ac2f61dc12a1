"""The facts of a budget: how many it is offered, how many bits they are, and how often a run reads each.

Sources whose size follows from each budget's own dense model (`Source.by_budget`) are sized here. Refuses bits per
parameter where no source is sized by budget, exposures where no source has facts with a known number of tokens, and
sizes that a source cannot have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from memscale.config.budget import Budget
from memscale.config.data import Data
from memscale.errors import ConfigError, PlanError


@dataclass(frozen=True, kw_only=True)
class OfferedFacts:
    """The facts of a source that the runs of a budget are trained on."""

    source: str
    num_facts: int
    bits: float
    """Entropy of all of them."""
    bits_per_parameter: float
    """Per non-embedding parameter of the budget's dense model."""
    exposures: float | None
    """Times that the dense run reads each on average; None where the tokens of a fact are not known."""


def data_of_budget(data: Data, budget: Budget, params_non_embedding: int, name: str) -> Data:
    """Return the data of a budget, with its sources sized; `data` itself where none is sized by budget.

    Args:
        data: The sweep's data.
        budget: The budget, which may ask for its own bits per parameter.
        params_non_embedding: Of the budget's dense model.
        name: The budget's name, for messages.

    Raises:
        PlanError: A source cannot have that size, or the budget asks for bits and no source is sized by budget.
    """
    if not any(source.by_budget for source in data.sources):
        if budget.bits_per_parameter is not None:
            raise PlanError(
                f"scale: the budget {name} asks for {budget.bits_per_parameter:g} bits per parameter, but no source of "
                f"the data {data.name} is sized by budget ({_names(data)}). Choose data with a source of kind "
                "'dense_facts' whose num_facts is null, or remove bits_per_parameter from the budget"
            )
        return data
    sources = []
    for source in data.sources:
        try:
            sources.append(source.sized(params_non_embedding, budget.bits_per_parameter))
        except ConfigError as error:
            raise PlanError(
                f"scale: the source {source.name} cannot be sized for the budget {name}, whose dense model has "
                f"{params_non_embedding:,} non-embedding parameters: {error}"
            ) from None
    return replace(data, sources=tuple(sources))


def tokens_of_exposures(data: Data, exposures: float, name: str) -> float:
    """Return the training tokens in which each fact is read `exposures` times on average.

    D = exposures x sum over sources of (facts x tokens per fact) / the sources' share of the tokens, over the sources
    whose facts have a known number of tokens. Exact for whole documents in whole epochs; a run rounds D to batches.

    Args:
        data: The budget's data, with its sources sized.
        exposures: Times that each fact is to be read.
        name: The budget's name, for messages.

    Raises:
        PlanError: No source has facts with a known number of tokens.
    """
    told = [(one.weight, one.knowledge) for one in data.sources if one.knowledge is not None]
    counted = [(weight, held.num_facts * held.tokens_per_fact) for weight, held in told if held.tokens_per_fact]
    if not counted:
        raise PlanError(
            f"scale: the budget {name} asks for {exposures:g} exposures, but no source of the data {data.name} has "
            f"facts with a known number of tokens ({_names(data)}). Choose data with a source of kind 'dense_facts', "
            "or give the budget flops, tokens or tokens_per_parameter"
        )
    share = sum(weight for weight, _ in counted) / sum(source.weight for source in data.sources)
    return exposures * sum(tokens for _, tokens in counted) / share


def offered_facts(data: Data, params_non_embedding: int, tokens: int) -> tuple[OfferedFacts, ...]:
    """Return the countable facts of every source of a budget's data.

    Args:
        data: The budget's data, with its sources sized.
        params_non_embedding: Of the budget's dense model.
        tokens: Training tokens of the dense run.
    """
    weights = sum(source.weight for source in data.sources)
    found = []
    for source in data.sources:
        held = source.knowledge
        if held is None:
            continue
        exposures = None
        if held.tokens_per_fact is not None:
            exposures = tokens * source.weight / weights / (held.num_facts * held.tokens_per_fact)
        found.append(
            OfferedFacts(
                source=source.name,
                num_facts=held.num_facts,
                bits=held.bits,
                bits_per_parameter=held.bits / params_non_embedding,
                exposures=exposures,
            )
        )
    return tuple(found)


def _names(data: Data) -> str:
    return ", ".join(f"{source.name} of kind '{source.kind}'" for source in data.sources)
