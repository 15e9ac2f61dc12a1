"""The parameters of a built model, counted tensor by tensor; the planner counts the same from formulas.

Every parameter belongs to exactly one component; a parameter that matches none is an AssertionError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

_COMPONENTS = (
    ("embedding", r"embedding\.weight"),
    ("lm_head", r"head\.weight"),
    (
        "table",
        r"table|blocks\.\d+\.((slot|beside)\.(table|input_table|output_table)|ngram\.table|token_table\.table)",
    ),
    ("attention", r"blocks\.\d+\.attention\.(qkv|out)\.weight"),
    ("norm", r"(blocks\.\d+\.(attention_|slot_|token_table\.|ngram\.(hidden|key|conv)_))?norm\.weight"),
    ("ffn", r"blocks\.\d+\.slot\.(gate_up|down)\.weight"),
    ("router", r"blocks\.\d+\.slot\.router\.weight"),
    ("experts", r"blocks\.\d+\.slot\.(gate_up|down)"),
    ("shared_experts", r"blocks\.\d+\.slot\.shared\.(gate_up|down)\.weight"),
    ("query", r"blocks\.\d+\.(slot|beside)\.query(_norm)?\.(weight|bias)"),
    ("query_conv", r"blocks\.\d+\.(slot|beside)\.query_conv\.weight"),
    ("key_scoring", r"blocks\.\d+\.(slot|beside)\.(keys|core)"),
    ("ngram_projections", r"blocks\.\d+\.ngram\.key_value\.weight"),
    ("ngram_conv", r"blocks\.\d+\.ngram\.conv"),
    ("token_projections", r"blocks\.\d+\.(token_table\.(gate|out)|slot\.token_(gate|down))\.weight"),
    ("injection", r"injection\.weight"),
    ("memory_output", r"blocks\.\d+\.(slot|beside)\.(gate|out)\.weight"),
)
"""Component -> the names of its parameters."""


@dataclass(frozen=True, kw_only=True)
class ParameterCounts:
    """Parameters of one model; a tied head counts once, as embedding."""

    total: int
    embedding: int
    """Embedding and language-model head."""
    non_embedding: int
    """The rest; the tables are in it."""
    table: int
    """All tables' values, shared or of a layer."""
    components: tuple[tuple[str, int], ...]
    """Each component there is, with its parameters, under the names of the planner's components."""


def component(parameter_name: str) -> str:
    """Return the component that a parameter of a Transformer belongs to, by the parameter's name."""
    for name, pattern in _COMPONENTS:
        if re.fullmatch(pattern, parameter_name):
            return name
    raise AssertionError(f"parameter {parameter_name} belongs to no component")


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Count the parameters of a Transformer, shared ones once.

    Example:
        >>> from memscale.config.architecture import Architecture
        >>> from memscale.models.transformer import build
        >>> architecture = Architecture(
        ...     family="dense", d_model=8, num_layers=2, num_heads=2, num_kv_heads=2,
        ...     head_width=4, ffn_hidden=16, vocab_size=50,
        ... )
        >>> counts = count_parameters(build(architecture, seed=0))
        >>> counts.total, counts.embedding, counts.non_embedding, counts.table
        (2120, 800, 1320, 0)
    """
    sums: dict[str, int] = {}
    for name, parameter in model.named_parameters():  # shared parameters come once
        part = component(name)
        sums[part] = sums.get(part, 0) + parameter.numel()
    total = sum(sums.values())
    embedding = sums["embedding"] + sums.get("lm_head", 0)
    return ParameterCounts(
        total=total,
        embedding=embedding,
        non_embedding=total - embedding,
        table=sums.get("table", 0),
        components=tuple(sums.items()),
    )
