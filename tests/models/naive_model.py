"""The models once more, token by token in NumPy and float64, from the formulas."""

from __future__ import annotations

from math import erf

import numpy as np
from numpy.typing import NDArray

from memscale.config.architecture import Architecture
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.token_layers import NGram
from memscale.models.transformer import Transformer

Array = NDArray[np.float64]


def logits(model: Transformer, tokens: list[list[int]]) -> Array:
    """Return [B, S, V] for sequences of one length, in the mode that the model is in."""
    a, state = model.architecture, {name: value.double().numpy() for name, value in model.state_dict().items()}
    x = state["embedding.weight"][tokens]
    late: dict[int, list[Array]] = {}
    for layer in order(a):
        if layer < 0:  # a recurrence starts
            if layer == -1:
                entered = x
            x = injected(state["injection.weight"], x, entered)
            continue
        part = {name.split(".", 2)[2]: value for name, value in state.items() if name.startswith(f"blocks.{layer}.")}
        if a.ngram is not None and layer in a.ngram.layers:
            x = x + np.stack([ngrams(a, layer, part, *one) for one in zip(x, tokens, strict=True)])
        rows = part["token_table.table"][tokens] if "token_table.table" in part else None
        valued = rows if rows is not None and a.token_table.use == "values" else [None] * len(x)
        normed = rms_norm(x, part["attention_norm.weight"], a.norm_eps)
        x = x + np.stack([attention(a, part, *one) for one in zip(normed, valued, strict=True)])
        normed = rms_norm(x, part["slot_norm.weight"], a.norm_eps)
        if a.feed_forward_kind(layer) == "token_table":
            hidden = silu(normed @ part["slot.token_gate.weight"].T) * part["slot.table"][tokens]
            x = x + hidden @ part["slot.token_down.weight"].T
        else:
            kind = a.feed_forward_kind(layer)
            x = x + slot(a, kind, part, state, normed, tokens, model.training).reshape(x.shape)
        for kind, keyed in (("memory", a.memory), ("peer", a.peer)):
            if keyed is not None and keyed.place == "beside" and layer in keyed.layers:
                own = {name.replace("beside.", "slot."): value for name, value in part.items() if "slot." not in name}
                out = slot(a, kind, own, state, normed, tokens, model.training).reshape(x.shape)
                if keyed.skip is None:
                    x = x + out
                else:
                    late.setdefault(layer + keyed.skip, []).append(out)
        if rows is not None and a.token_table.use == "gated":
            hidden = rms_norm(x, part["token_table.norm.weight"], a.norm_eps) @ part["token_table.gate.weight"].T
            x = x + (np.vectorize(gelu)(hidden) * rows) @ part["token_table.out.weight"].T
        for out in late.get(layer, []):
            x = x + out
    return rms_norm(x, state["norm.weight"], a.norm_eps) @ state.get("head.weight", state["embedding.weight"]).T


def order(a: Architecture) -> list[int]:
    """The layers in the order in which they are applied; -1 and -2 where a first and a later injection stands."""
    if a.loop is None:
        return list(range(a.num_layers))
    layers = list(range(a.loop.prelude))
    for recurrence in range(a.loop.recurrences):
        if a.loop.injection == "concatenate":
            layers.append(-1 if recurrence == 0 else -2)
        for number in range(a.loop.recurrent):
            layers.append(a.loop.prelude + number)
    for number in range(a.loop.coda):
        layers.append(a.loop.prelude + a.loop.recurrent + number)
    return layers


def injected(weight: Array, x: Array, entered: Array) -> Array:
    out = np.zeros_like(x)
    for sequence in range(x.shape[0]):
        for position in range(x.shape[1]):
            state = [*x[sequence, position], *entered[sequence, position]]
            for row in range(len(weight)):
                out[sequence, position, row] = sum(w * s for w, s in zip(weight[row], state, strict=True))
    return out


def rms_norm(x: Array, gain: Array | float, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * gain


def gelu(x: float) -> float:
    return x * (1 + erf(x / np.sqrt(2))) / 2


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


def attention(a: Architecture, part: dict[str, Array], x: Array, added: Array | None = None) -> Array:
    rows = (x @ part["attention.qkv.weight"].T).reshape(len(x), -1, a.head_width)
    keys_from, values_from = a.num_heads, a.num_heads + a.num_kv_heads
    if added is not None:
        rows[:, values_from:] += added.reshape(len(x), -1, a.head_width)
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
    a: Architecture, kind: str, part: dict[str, Array], state: dict[str, Array], x: Array, tokens: list[list[int]],
    training: bool,
) -> Array:  # fmt: skip
    """Return [B, S, D] or [B S, D]: all tokens of the batch [B, S, D] through a feed-forward slot of this kind."""
    rows = x.reshape(-1, a.d_model)
    if kind == "moe" and a.moe.routing == "hash":
        return np.stack([hashed_experts(a.moe, part, x, id_) for x, id_ in zip(rows, np.ravel(tokens), strict=True)])
    if kind == "moe":
        return np.stack([experts(a.moe, part, sequence, training) for sequence in x])
    if kind == "memory":
        table = state["table"] if a.memory.shared_table else part["slot.table"]
        chosen = selections(a.memory, part, convolved(a.memory, part, x), a.norm_eps, training)
        return np.stack([memory(a.memory, part, table, x, heads) for x, heads in zip(rows, chosen, strict=True)])
    if kind == "peer":
        chosen = selections(a.peer, part, convolved(a.peer, part, x), a.norm_eps, training)
        return np.stack([tiny_experts(part, x, heads) for x, heads in zip(rows, chosen, strict=True)])
    return np.stack([swiglu(part["slot.gate_up.weight"], part["slot.down.weight"], x) for x in rows])


def swiglu(gate_up: Array, down: Array, x: Array) -> Array:
    gate, up = np.split(gate_up @ x, 2)
    return down @ (silu(gate) * up)


def experts(moe: MoE, part: dict[str, Array], sequence: Array, training: bool) -> Array:
    logits = sequence @ part["slot.router.weight"].T
    scores = np.stack([softmax(row) for row in logits]) if moe.scores == "softmax" else 1 / (1 + np.exp(-logits))
    weights = np.zeros_like(scores)
    if moe.routing == "expert_choice" and training:
        for expert in range(moe.num_experts):
            best = np.argsort(-scores[:, expert])[: moe.capacity(len(sequence))]
            weights[best, expert] = scores[best, expert]
    else:
        for row, offered in zip(weights, scores, strict=True):
            best = np.argsort(-(offered + part.get("slot.balance_bias", 0.0)))[: moe.experts_per_token]
            row[best] = offered[best] / (offered[best].sum() if moe.renormalise else 1.0)
    outputs = []
    for x, row in zip(sequence, weights, strict=True):
        routed = [swiglu(part["slot.gate_up"][e], part["slot.down"][e], x) * row[e] for e in np.flatnonzero(row)]
        if moe.shared_experts:
            routed.append(swiglu(part["slot.shared.gate_up.weight"], part["slot.shared.down.weight"], x))
        outputs.append(np.sum(routed, axis=0) if routed else np.zeros_like(x))
    return np.stack(outputs)


def hashed_experts(moe: MoE, part: dict[str, Array], x: Array, id_: int) -> Array:
    named = [int(expert) for expert in part["slot.experts"][id_]]
    assert len(set(named)) == moe.experts_per_token
    out = np.mean([swiglu(part["slot.gate_up"][expert], part["slot.down"][expert], x) for expert in named], axis=0)
    if moe.shared_experts:
        out = out + swiglu(part["slot.shared.gate_up.weight"], part["slot.shared.down.weight"], x)
    return out


def convolved(config: Memory | Peer, part: dict[str, Array], x: Array) -> Array:
    """Return [B S, D]: what queries are made of, from inputs [B, S, D]."""
    if config.query_conv is None:
        return x.reshape(-1, x.shape[-1])
    weight, out = part["slot.query_conv.weight"], np.zeros_like(x)
    for sequence, result in zip(x, out, strict=True):
        for position in range(len(sequence)):
            for back in range(min(config.query_conv, position + 1)):
                result[position] += weight[:, back] * sequence[position - back]
    return out.reshape(-1, x.shape[-1])


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
            if config.core_rank is None:
                grid = (halves[0][:, None] + halves[1][None, :]).ravel()
            else:
                grid = tucker_scores(halves[0], halves[1], part["slot.core"][head], config.knn).ravel()
            best = np.argsort(-grid)[: config.knn]
            heads.append((best, weights_of(config, grid[best])))
        chosen.append(heads)
    return chosen


def tucker_scores(rows: Array, columns: Array, core: Array, knn: int) -> Array:
    """The grid of scores from row and column scores [R, N]; minus infinity where the rank-1 core would not look."""
    left, _, right = np.linalg.svd(core)
    u, v = left[:, 0], right[0]
    if u.sum() + v.sum() < 0:
        u, v = -u, -v
    grid = np.full((rows.shape[1], columns.shape[1]), -np.inf)
    for i in np.argsort(-(u @ rows))[:knn]:
        for j in np.argsort(-(v @ columns))[:knn]:
            grid[i, j] = sum(
                core[r, s] * rows[r, i] * columns[s, j] for r in range(len(core)) for s in range(len(core))
            )
    return grid


def weights_of(config: Memory | Peer, scores: Array) -> Array:
    if config.weights == "softmax":
        return softmax(scores)
    return scores if config.weights == "none" else np.array([max(score, 0.0) for score in scores])


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
    gate = silu(part["slot.gate.weight"] @ x) if config.gated else 1.0
    if config.expansion is not None:
        return expanded(config, part["slot.out.weight"], table, chosen, gate)
    y = np.sum([weights @ table[slots] for slots, weights in chosen], axis=0) * gate
    return part["slot.out.weight"] @ y if config.gated or config.projection else y


def expanded(config: Memory, out: Array, table: Array, chosen: list[tuple[Array, Array]], gate: Array | float) -> Array:
    """The sum of virtual values: a row times the projection of the block that the permuted slot lies in."""
    rows, size, width = len(table), len(table) * config.expansion, table.shape[1]
    multiplier = int(size / 1.618033988749895)
    while np.gcd(multiplier, size) > 1:
        multiplier += 1
    y = np.zeros(len(out))
    for slots, weights in chosen:
        for slot_, weight in zip(slots, weights, strict=True):
            block, row = divmod(int(slot_) * multiplier % size, rows)
            y += weight * out[:, block * width : (block + 1) * width] @ (table[row] * gate)
    return y


def tiny_experts(part: dict[str, Array], x: Array, chosen: list[tuple[Array, Array]]) -> Array:
    out = np.zeros_like(x)
    for slots, weights in chosen:
        for i, weight in zip(slots, weights, strict=True):
            hidden = part["slot.input_table"][i] @ x
            out += weight * gelu(hidden) * part["slot.output_table"][i]
    return out


def ngrams(a: Architecture, layer: int, part: dict[str, Array], x: Array, tokens: list[int]) -> Array:
    """Return [S, D]: what n-gram memory gives a sequence, address by address."""
    config = a.ngram
    rows = ngram_rows(config, layer, a.vocab_size, tokens)
    out = []
    for hidden, read in zip(x, rows, strict=True):
        memory = np.concatenate([part["ngram.table"][row] for row in read])
        key, value = np.split(part["ngram.key_value.weight"] @ memory, 2)
        key = rms_norm(key, part["ngram.key_norm.weight"], a.norm_eps)
        gate = rms_norm(hidden, part["ngram.hidden_norm.weight"], a.norm_eps) @ key / np.sqrt(a.d_model)
        if config.signed_root:
            gate = np.sign(gate) * np.sqrt(max(abs(gate), 1e-6))
        out.append(value / (1 + np.exp(-gate)))
    if not config.conv_width:
        return np.array(out)
    normed = [rms_norm(u, part["ngram.conv_norm.weight"], a.norm_eps) for u in out]
    mixed = []
    for position, u in enumerate(out):
        total = np.zeros_like(u)
        for tap in range(config.conv_width):
            other = position - (config.conv_width - 1 - tap) * max(config.orders)
            if other >= 0:
                total += part["ngram.conv"][:, 0, tap] * normed[other]
        mixed.append(u + silu(total))
    return np.array(mixed)


def ngram_rows(config: NGram, layer: int, vocab_size: int, tokens: list[int]) -> list[list[int]]:
    """Return for every token the rows that it reads, in Python's own integers."""
    longest = max(config.orders)
    generator = np.random.default_rng(config.hash_seed + 10_007 * layer)
    drawn = generator.integers(0, (2**63 - 1) // vocab_size // 2, longest)
    odd = [2 * int(number) + 1 for number in drawn]
    sizes = config.table_sizes(config.layers.index(layer))
    rows = []
    for position in range(len(tokens)):
        window = [tokens[position]]
        for back in range(1, longest):
            ended = position - back < 0 or 0 in tokens[position - back + 1 : position]
            window.append(0 if ended else tokens[position - back])
        read, start = [], 0
        for number, order in enumerate(config.orders):
            mixed = 0
            for token, factor in zip(window[:order], odd, strict=False):
                mixed ^= token * factor
            for size in sizes[number * config.num_heads : (number + 1) * config.num_heads]:
                read.append(start + mixed % size)
                start += size
        rows.append(read)
    return rows
