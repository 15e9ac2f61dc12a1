"""Resolves dense shapes and the indices of sparse layers from the configuration. Refuses layers outside the stack."""

from __future__ import annotations

import math

from memscale.config.architecture import Architecture
from memscale.config.budget import Budget, Scale, Shapes
from memscale.config.family import PlacedFamily
from memscale.errors import PlanError


def dense_architecture(budget: Budget, scale: Scale, vocab_size: int) -> Architecture:
    """Return the dense model of `budget`; without a given hidden width it is 8/3 d_model rounded up, as in Llama."""
    multiple = scale.ffn_multiple_of
    hidden = budget.ffn_hidden or math.ceil(8 * budget.d_model / 3 / multiple) * multiple
    return Architecture(
        family="dense",
        d_model=budget.d_model,
        num_layers=budget.num_layers,
        num_heads=budget.num_heads,
        num_kv_heads=budget.num_kv_heads or budget.num_heads,
        head_width=budget.d_model // budget.num_heads,
        ffn_hidden=hidden,
        vocab_size=vocab_size,
    )


def budget_at_width(
    d_model: int,
    shapes: Shapes,
    *,
    flops: float | None = None,
    tokens: float | None = None,
    tokens_per_parameter: float | None = None,
    exposures: float | None = None,
    bits_per_parameter: float | None = None,
) -> Budget:
    """Return the budget of the model of width `d_model` by the rule `shapes`, trained for the given length."""
    return Budget(
        flops=flops,
        tokens=tokens,
        tokens_per_parameter=tokens_per_parameter,
        exposures=exposures,
        bits_per_parameter=bits_per_parameter,
        d_model=d_model,
        num_layers=max(shapes.least_layers, round(d_model / shapes.width_per_layer)),
        num_heads=d_model // shapes.head_width,
    )


def placed_layers(family: PlacedFamily, num_layers: int) -> tuple[int, ...]:
    """Return the 0-based indices of the sparse layers of `family` in a stack of `num_layers`. Raises PlanError."""
    if family.layers == "all":
        return tuple(range(num_layers))
    if family.layers == "middle":
        return centred_layers(num_layers, 1, 1)
    if family.layers == "early_and_middle":
        return tuple(sorted({min(1, num_layers - 1), max(0, num_layers // 2 - 1)}))
    if family.layers is not None:
        layers = tuple(int(layer) for layer in family.layers)
        if list(layers) != sorted(set(layers)) or not layers or layers[0] < 0 or layers[-1] >= num_layers:
            raise PlanError(
                f"families.{family.name}.layers is {list(layers)}; in a stack of {num_layers} layers it needs "
                f"increasing numbers from 0 to {num_layers - 1}"
            )
        return layers
    assert family.centred is not None
    return centred_layers(num_layers, family.centred, family.stride or math.ceil(num_layers / family.centred))


def centred_layers(num_layers: int, centred: int, stride: int) -> tuple[int, ...]:
    """Indices of `centred` layers, `stride` apart, around the middle of the stack (24 layers, 3, 8: 4, 12, 20).

    Raises PlanError where they do not fit.
    """
    middle = num_layers / 2 - (centred - 1) * stride / 2
    layers = tuple(math.floor(middle + i * stride) for i in range(centred))
    if layers[0] < 0 or layers[-1] >= num_layers:
        raise PlanError(
            f"{centred} layers, {stride} apart, do not fit into {num_layers} (they would be {list(layers)}). "
            "Lower the family's `centred` or `stride`, or name its `layers`"
        )
    return layers
