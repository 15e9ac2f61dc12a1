"""Published rules for the learning rate and the batch: formula, source, units, and the range each was fitted on.

The rules were fitted on different data, schedules and parametrisations and differ several-fold at the same inputs, so a
plan prints the one it used. None was fitted on memory layers. A plan outside the range of a rule (`Rule.ranges`) is
refused or has a note. The formulas are those of the sources; where a source rounds (nanochat rounds the batch to a
power of two), the rule does too.

The symbols of the formulas are those of `rule_inputs`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from memscale.config.recipe import FIXED, TUNED
from memscale.errors import ConfigError, nearest
from memscale.planning.rule_inputs import SYMBOLS, RuleInputs


@dataclass(frozen=True, kw_only=True)
class Range:
    """The values of one input for which a rule was fitted or checked, both ends included."""

    reads: str
    """A field of RuleInputs."""
    low: float
    high: float
    basis: str
    """Where the source gives the ends."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A published rule."""

    name: str
    source: str
    formula: str
    units: str
    """Unit of the value."""
    reads: tuple[str, ...]
    """Fields of RuleInputs that the formula uses."""
    ranges: tuple[Range, ...] | None
    """Where the rule was fitted or checked; None: unknown from the source."""
    value: Callable[[RuleInputs], float]


def _olmo_batch(inputs: RuleInputs) -> float:
    return 2048 * 160 * math.pow(inputs.params_non_embedding / 108e6, 2 / 3)


def _marin_rate(inputs: RuleInputs) -> float:
    if inputs.batch_tokens is None:
        raise ConfigError("the learning-rate rule 'marin' reads the batch, and batch_tokens is not given")
    return 0.33 * math.sqrt(inputs.batch_tokens / inputs.sequence_length) / inputs.d_model


NANOCHAT_TOKENS = 10.5 * (12 * 12 * 768**2 + 768 * 32768)
"""Training length of nanochat's d12 reference: 10.5 tokens for each parameter of its matrices and LM head."""
NANOCHAT_BATCH = 2**19
"""Tokens per batch found best at that reference."""


def _nanochat_batch(inputs: RuleInputs) -> float:
    batch = NANOCHAT_BATCH * (inputs.tokens / NANOCHAT_TOKENS) ** 0.383
    return float(2 ** round(math.log2(batch)))


_DEEPSEEK_SOURCE = "DeepSeek-AI 2024, DeepSeek LLM, arXiv:2401.02954, equation 1"
_DEEPSEEK_RANGES = (
    Range(
        reads="flops",
        low=1e17,
        high=2e19,
        basis="compute of the fitted runs (section 3.1); C there leaves embeddings out. Confirmed at 1e20",
    ),
)
_STEPLAW_SOURCE = "Li et al. 2025, Predictable Scale: Part I, Step Law, arXiv:2503.04715, equation 1"
_STEPLAW_N = Range(reads="params_non_embedding", low=5.9e7, high=1.0e9, basis="sizes of the fitted dense runs")
_STEPLAW_D = Range(reads="tokens", low=2e9, high=1e11, basis="training lengths of the fitted runs")
_OLMO_SOURCE = (
    "OLMo model ladder (Bhagia et al. 2024, arXiv:2412.04403), after Porian et al. 2024, arXiv:2406.19146; "
    "the halving of the rate is the ladder's"
)
_OLMO_RANGES = (
    Range(
        reads="params_non_embedding",
        low=2.5e7,
        high=1.3e9,
        basis="Porian et al. fitted 25M to 110M; the ladder's models reach 1.3B",
    ),
)

LEARNING_RATE_RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            name="deepseek",
            source=_DEEPSEEK_SOURCE,
            formula="0.3118 C^-0.1250",
            units="peak learning rate of AdamW",
            reads=("flops",),
            ranges=_DEEPSEEK_RANGES,
            value=lambda inputs: 0.3118 * inputs.flops**-0.1250,
        ),
        Rule(
            name="steplaw",
            source=_STEPLAW_SOURCE,
            formula="1.79 N^-0.713 D^0.307",
            units="peak learning rate of AdamW",
            reads=("params_non_embedding", "tokens"),
            ranges=(_STEPLAW_N, _STEPLAW_D),
            value=lambda inputs: 1.79 * inputs.params_non_embedding**-0.713 * inputs.tokens**0.307,
        ),
        Rule(
            name="olmo_ladder",
            source=_OLMO_SOURCE,
            formula="0.0047 (N / 108e6)^(-1/3) / 2",
            units="peak learning rate of AdamW",
            reads=("params_non_embedding",),
            ranges=_OLMO_RANGES,
            value=lambda inputs: 0.0047 * (inputs.params_non_embedding / 108e6) ** (-1 / 3) / 2,
        ),
        Rule(
            name="marin",
            source="Marin, isoFLOP sweeps (LR_CONSTANT of marin.scaling_laws.isoflop_analysis)",
            formula="0.33 sqrt(B / s) / d",
            units="peak learning rate of AdamW",
            reads=("batch_tokens", "sequence_length", "d_model"),
            ranges=(
                Range(reads="flops", low=1e18, high=1e20, basis="default budgets of its isoFLOP sweeps"),
                Range(reads="d_model", low=512, high=4096, basis="widths there; rates above 0.01 are refused"),
            ),
            value=_marin_rate,
        ),
        Rule(
            name="joint_moe",
            source="Ludziejewski et al. 2025, Joint MoE Scaling Laws, arXiv:2502.05172, equation 8",
            formula="exp(8.39 - 0.81 ln N - 0.25 ln E)",
            units="peak learning rate of AdamW",
            reads=("params_non_embedding", "num_experts"),
            ranges=(
                Range(
                    reads="params_non_embedding",
                    low=2.7e7,
                    high=2.5e9,
                    basis="13 x blocks x d^2 of the smallest and largest run of its appendix E",
                ),
                Range(reads="num_experts", low=1, high=32, basis="fitted at 1 and 8 experts, checked at 4 and 32"),
            ),
            value=lambda inputs: math.exp(
                8.39 - 0.81 * math.log(inputs.params_non_embedding) - 0.25 * math.log(inputs.num_experts)
            ),
        ),
    )
}
"""Rules that give a peak learning rate, by name."""

BATCH_RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            name="deepseek",
            source=_DEEPSEEK_SOURCE,
            formula="0.2920 C^0.3271",
            units="tokens per batch",
            reads=("flops",),
            ranges=_DEEPSEEK_RANGES,
            value=lambda inputs: 0.2920 * inputs.flops**0.3271,
        ),
        Rule(
            name="steplaw",
            source=_STEPLAW_SOURCE,
            formula="0.58 D^0.571",
            units="tokens per batch",
            reads=("tokens",),
            ranges=(_STEPLAW_D,),
            value=lambda inputs: 0.58 * inputs.tokens**0.571,
        ),
        Rule(
            name="olmo_ladder",
            source=_OLMO_SOURCE,
            formula="2048 x 160 (N / 108e6)^(2/3)",
            units="tokens per batch",
            reads=("params_non_embedding",),
            ranges=_OLMO_RANGES,
            value=_olmo_batch,
        ),
        Rule(
            name="nanochat",
            source="Karpathy, nanochat, scripts/base_train.py; exponent of Bergsma et al. 2025, arXiv:2505.13738",
            formula="2^19 (D / 1.156e9)^0.383, to the nearest power of two",
            units="tokens per batch",
            reads=("tokens",),
            ranges=(
                Range(
                    reads="tokens",
                    low=1.15e9,
                    high=9.65e9,
                    basis="lengths of d12 and d26, the two depths at which its best batch was measured",
                ),
            ),
            value=_nanochat_batch,
        ),
    )
}
"""Rules that give the tokens of a batch, by name."""


def learning_rate_rule(name: str) -> Rule:
    """Return the learning-rate rule of that name. Raises ConfigError for an unknown name."""
    return _named("learning-rate", name, LEARNING_RATE_RULES, BATCH_RULES, (TUNED, FIXED))


def batch_rule(name: str) -> Rule:
    """Return the batch rule of that name. Raises ConfigError for an unknown name."""
    return _named("batch", name, BATCH_RULES, LEARNING_RATE_RULES, (FIXED,))


def learning_rate(name: str, inputs: RuleInputs) -> float:
    """Return the peak learning rate by a named rule.

    Raises ConfigError for an unknown name, or where the rule needs a batch and none is given.

    Example:
        >>> inputs = RuleInputs(flops=1e19, params_non_embedding=1e8, tokens=1e10, batch_tokens=2**19,
        ...                     sequence_length=4096, d_model=768)
        >>> {name: float(f"{learning_rate(name, inputs):.3g}") for name in ("deepseek", "steplaw", "olmo_ladder")}
        {'deepseek': 0.00131, 'steplaw': 0.00416, 'olmo_ladder': 0.00241}
    """
    return learning_rate_rule(name).value(inputs)


def batch_tokens(name: str, inputs: RuleInputs) -> float:
    """Return the tokens per batch by a named rule, not rounded to sequences. Raises ConfigError for an unknown name."""
    return batch_rule(name).value(inputs)


def outside(rule: Rule, inputs: RuleInputs) -> str | None:
    """Return which inputs lie outside the range of `rule`, as sentences; None where none does.

    A rule whose source states no range (`rule.ranges is None`) is never outside it.
    """
    sentences = []
    for given in rule.ranges or ():
        value = float(getattr(inputs, given.reads))
        if not given.low <= value <= given.high:
            symbol, unit = SYMBOLS[given.reads]
            sentences.append(
                f"{rule.name} was fitted for {symbol} between {given.low:.3g} and {given.high:.3g} {unit}; "
                f"here {symbol} = {value:.3g}"
            )
    return ". ".join(sentences) or None


def _named(kind: str, name: str, rules: Mapping[str, Rule], others: Mapping[str, Rule], words: tuple[str, ...]) -> Rule:
    if name in rules:
        return rules[name]
    valid = (*words, *rules)
    why = f"no {kind} rule is named '{name}'"
    if name in others:
        why = f"the rule '{name}' gives no {kind.replace('-', ' ')}"
    raise ConfigError(f"{why}; valid: {', '.join(valid)}.{nearest(name, valid)}")
