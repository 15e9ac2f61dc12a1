"""The models once more, token by token in NumPy and float64, from the formulas; and small examples of each family."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from memscale.config.architecture import Architecture, Memory, MoE
from memscale.models.transformer import Transformer

Array = NDArray[np.float64]


def small(family: str, *, experts_per_token: int = 1, gated: bool = True, qk_norm: bool = True) -> Architecture:
    """A model of three layers with every shape different from every other."""
    d_model, kv_heads = 12, 2
    return Architecture(
        family=family,
        d_model=d_model,
        num_layers=3,
        num_heads=4,
        num_kv_heads=kv_heads,
        head_width=6,
        ffn_hidden=10,
        vocab_size=31,
        moe=MoE(layers=(0, 2), num_experts=5, experts_per_token=experts_per_token, expert_hidden=7)
        if family == "moe"
        else None,
        memory=Memory(
            layers=(0, 2),
            num_keys=9,
            num_heads=3,
            knn=4,
            key_width=8,
            value_width=5 if gated else d_model,
            gated=gated,
            qk_norm=qk_norm,
        )
        if family == "memory_plus"
        else None,
    )


FAMILIES = {
    "dense": small("dense"),
    "moe top-1": small("moe"),
    "moe top-2": small("moe", experts_per_token=2),
    "memory_plus": small("memory_plus"),
    "memory, ungated": small("memory_plus", gated=False, qk_norm=False),
}


def logits(model: Transformer, tokens: list[int]) -> Array:
    """Return [S, V] for one sequence."""
    a, weights = model.architecture, {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    x = weights["embedding.weight"][tokens]
    for layer in range(a.num_layers):
        part = {name.split(".", 2)[2]: value for name, value in weights.items() if name.startswith(f"blocks.{layer}.")}
        x = x + attention(a, part, rms_norm(x, part["attention_norm.weight"], a.norm_eps))
        normed = rms_norm(x, part["slot_norm.weight"], a.norm_eps)
        x = x + np.stack([slot(a, layer, part, weights.get("table"), token) for token in normed])
    return rms_norm(x, weights["norm.weight"], a.norm_eps) @ weights.get("head.weight", weights["embedding.weight"]).T


def rms_norm(x: Array, gain: Array | float, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * gain


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def rotated(vector: Array, position: int, theta: float) -> Array:
    out, width = vector.copy(), len(vector)
    for i in range(0, width, 2):
        angle = position * theta ** (-i / width)
        out[i] = vector[i] * np.cos(angle) - vector[i + 1] * np.sin(angle)
        out[i + 1] = vector[i] * np.sin(angle) + vector[i + 1] * np.cos(angle)
    return out


def attention(a: Architecture, part: dict[str, Array], x: Array) -> Array:
    rows = (x @ part["attention.qkv.weight"].T).reshape(len(x), -1, a.head_width)
    keys_from, values_from = a.num_heads, a.num_heads + a.num_kv_heads
    mixed = np.zeros((len(x), a.num_heads, a.head_width))
    for head in range(a.num_heads):
        shared = head // (a.num_heads // a.num_kv_heads)
        for position in range(len(x)):
            query = rotated(rows[position, head], position, a.rope_theta)
            seen = range(position + 1)
            keys = [rotated(rows[other, keys_from + shared], other, a.rope_theta) for other in seen]
            weights = softmax(np.array([query @ key for key in keys]) / np.sqrt(a.head_width))
            mixed[position, head] = sum(weights[other] * rows[other, values_from + shared] for other in seen)
    return mixed.reshape(len(x), -1) @ part["attention.out.weight"].T


def slot(a: Architecture, layer: int, part: dict[str, Array], table: Array | None, x: Array) -> Array:
    kind = a.slot(layer)
    if kind == "moe":
        assert a.moe is not None
        return experts(a.moe, part, x)
    if kind == "memory":
        assert a.memory is not None
        assert table is not None
        return memory(a.memory, part, table, x, a.norm_eps)
    return swiglu(part["slot.gate_up.weight"], part["slot.down.weight"], x)


def swiglu(gate_up: Array, down: Array, x: Array) -> Array:
    gate, up = np.split(gate_up @ x, 2)
    return down @ (silu(gate) * up)


def experts(moe: MoE, part: dict[str, Array], x: Array) -> Array:
    scores = softmax(part["slot.router.weight"] @ x)
    chosen = np.argsort(-scores)[: moe.experts_per_token]
    total = scores[chosen].sum() if moe.experts_per_token > 1 else 1.0
    outputs = [swiglu(part["slot.gate_up"][e], part["slot.down"][e], x) * scores[e] / total for e in chosen]
    return np.sum(outputs, axis=0)


def memory(config: Memory, part: dict[str, Array], table: Array, x: Array, eps: float) -> Array:
    half_width = config.key_width // 2
    query = (part["slot.query.weight"] @ x + part["slot.query.bias"]).reshape(2, config.num_heads, half_width)
    y = np.zeros(config.value_width)
    for head in range(config.num_heads):
        halves = []
        for side in (0, 1):
            half, keys = query[side, head], part["slot.keys"][side, head]
            if config.qk_norm:
                half, keys = rms_norm(half, 1.0, eps), rms_norm(keys, 1.0, eps)
            halves.append(keys @ half)
        grid = (halves[0][:, None] + halves[1][None, :]).ravel()
        best = np.argsort(-grid)[: config.knn]
        y += softmax(grid[best]) @ table[best]
    if not config.gated:
        return y
    return part["slot.out.weight"] @ (y * silu(part["slot.gate.weight"] @ x))


def tokens_of(architecture: Architecture, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randint(architecture.vocab_size, shape, generator=torch.Generator().manual_seed(seed))
