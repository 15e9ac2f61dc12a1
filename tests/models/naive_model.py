"""The models once more, token by token in NumPy and float64, from the formulas; and small examples of each family."""

from __future__ import annotations

from dataclasses import replace
from math import erf

import numpy as np
import torch
from numpy.typing import NDArray

from memscale.config.architecture import PARTS, Architecture
from memscale.config.layers import Memory, MoE, Peer
from memscale.models.transformer import Transformer

Array = NDArray[np.float64]

MOE = MoE(layers=(0, 2), num_experts=5, experts_per_token=2, expert_hidden=7)
MEMORY_PLUS = Memory(layers=(0, 2), num_keys=9, num_heads=3, knn=4, key_width=8, value_width=5, qk_norm=True)
MEMORY = replace(MEMORY_PLUS, value_width=12, gated=False, qk_norm=False)
PKM = replace(MEMORY, shared_table=False, query_norm="batch")
PEER = Peer(layers=(0, 2), num_keys=9, num_heads=3, knn=4, key_width=8, query_norm="batch")


def small(family: str, part: MoE | Memory | Peer | None = None) -> Architecture:
    """A model of three layers with every shape different from every other."""
    examples = {"moe": MOE, "memory_plus": MEMORY_PLUS, "memory": MEMORY, "pkm": PKM, "peer": PEER}
    field = PARTS[family]
    return Architecture(
        family=family,
        d_model=12,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        head_width=6,
        ffn_hidden=10,
        vocab_size=31,
        **({} if field is None else {field: part or examples[family]}),  # type: ignore[arg-type]
    )


FAMILIES = {
    "dense": small("dense"),
    "moe top-1": small("moe", replace(MOE, experts_per_token=1, renormalise=False)),
    "moe top-2": small("moe"),
    "memory_plus": small("memory_plus"),
    "memory_plus, own tables": small("memory_plus", replace(MEMORY_PLUS, shared_table=False)),
    "memory": small("memory"),
    "pkm": small("pkm"),
    "pkm, layer norm": small("pkm", replace(PKM, query_norm="layer")),
    "peer": small("peer"),
    "peer, qk-norm": small("peer", replace(PEER, query_norm="none", qk_norm=True)),
}


def logits(model: Transformer, tokens: list[list[int]]) -> Array:
    """Return [B, S, V] for sequences of one length, in the mode that the model is in."""
    a, state = model.architecture, {name: value.double().numpy() for name, value in model.state_dict().items()}
    x = state["embedding.weight"][tokens]
    for layer in range(a.num_layers):
        part = {name.split(".", 2)[2]: value for name, value in state.items() if name.startswith(f"blocks.{layer}.")}
        normed = rms_norm(x, part["attention_norm.weight"], a.norm_eps)
        x = x + np.stack([attention(a, part, sequence) for sequence in normed])
        normed = rms_norm(x, part["slot_norm.weight"], a.norm_eps)
        out = slot(a, layer, part, state.get("table"), normed.reshape(-1, a.d_model), model.training)
        x = x + out.reshape(x.shape)
    return rms_norm(x, state["norm.weight"], a.norm_eps) @ state.get("head.weight", state["embedding.weight"]).T


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


def slot(
    a: Architecture, layer: int, part: dict[str, Array], shared: Array | None, rows: Array, training: bool
) -> Array:
    """Return [T, D]: all tokens of the batch through the layer's feed-forward slot."""
    kind = a.slot(layer)
    if kind == "moe":
        return np.stack([experts(a.moe, part, x) for x in rows])
    if kind == "memory":
        table = shared if a.memory.shared_table else part["slot.table"]
        chosen = selections(a.memory, part, rows, a.norm_eps, training)
        return np.stack([memory(a.memory, part, table, x, heads) for x, heads in zip(rows, chosen, strict=True)])
    if kind == "peer":
        chosen = selections(a.peer, part, rows, a.norm_eps, training)
        return np.stack([tiny_experts(part, x, heads) for x, heads in zip(rows, chosen, strict=True)])
    return np.stack([swiglu(part["slot.gate_up.weight"], part["slot.down.weight"], x) for x in rows])


def swiglu(gate_up: Array, down: Array, x: Array) -> Array:
    gate, up = np.split(gate_up @ x, 2)
    return down @ (silu(gate) * up)


def experts(moe: MoE, part: dict[str, Array], x: Array) -> Array:
    scores = softmax(part["slot.router.weight"] @ x)
    chosen = np.argsort(-scores)[: moe.experts_per_token]
    total = scores[chosen].sum() if moe.renormalise else 1.0
    outputs = [swiglu(part["slot.gate_up"][e], part["slot.down"][e], x) * scores[e] / total for e in chosen]
    return np.sum(outputs, axis=0)


def selections(
    config: Memory | Peer, part: dict[str, Array], rows: Array, eps: float, training: bool
) -> list[list[tuple[Array, Array]]]:
    """Return for every token and head its slots, best first, and their weights."""
    queries = rows @ part["slot.query.weight"].T + part["slot.query.bias"]
    queries = normed_queries(config, part, queries, eps, training).reshape(len(rows), 2, config.num_heads, -1)
    chosen = []
    for query in queries:
        heads = []
        for head in range(config.num_heads):
            halves = []
            for side in (0, 1):
                half, keys = query[side, head], part["slot.keys"][side, head]
                if config.qk_norm:
                    half, keys = rms_norm(half, 1.0, eps), rms_norm(keys, 1.0, eps)
                halves.append(keys @ half)
            grid = (halves[0][:, None] + halves[1][None, :]).ravel()
            best = np.argsort(-grid)[: config.knn]
            heads.append((best, softmax(grid[best])))
        chosen.append(heads)
    return chosen


def normed_queries(config: Memory | Peer, part: dict[str, Array], queries: Array, eps: float, training: bool) -> Array:
    if config.query_norm == "none":
        return queries
    normed = np.empty_like(queries)
    if config.query_norm == "batch":
        for column in range(queries.shape[1]):
            seen = queries[:, column] - part["slot.query.bias"][column]  # a shift that the norm takes out
            mean = seen.mean() if training else part["slot.query_norm.running_mean"][column]
            variance = ((seen - mean) ** 2).mean() if training else part["slot.query_norm.running_var"][column]
            normed[:, column] = (seen - mean) / np.sqrt(variance + eps)
    else:  # a head's values are those of both halves: [2, H, W] in memory
        width = config.key_width // 2
        for head in range(config.num_heads):
            columns = [(side * config.num_heads + head) * width + i for side in (0, 1) for i in range(width)]
            for row, values in enumerate(queries[:, columns]):
                normed[row, columns] = (values - values.mean()) / np.sqrt(values.var() + eps)
    return normed * part["slot.query_norm.weight"] + part["slot.query_norm.bias"]


def memory(config: Memory, part: dict[str, Array], table: Array, x: Array, chosen: list[tuple[Array, Array]]) -> Array:
    y = np.sum([weights @ table[slots] for slots, weights in chosen], axis=0)
    if not config.gated:
        return y
    return part["slot.out.weight"] @ (y * silu(part["slot.gate.weight"] @ x))


def tiny_experts(part: dict[str, Array], x: Array, chosen: list[tuple[Array, Array]]) -> Array:
    out = np.zeros_like(x)
    for slots, weights in chosen:
        for i, weight in zip(slots, weights, strict=True):
            hidden = part["slot.input_table"][i] @ x
            gelu = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
            out += weight * gelu * part["slot.output_table"][i]
    return out


def tokens_of(architecture: Architecture, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randint(architecture.vocab_size, shape, generator=torch.Generator().manual_seed(seed))
