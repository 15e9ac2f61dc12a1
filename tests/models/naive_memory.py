"""Memory and PEER layers once more, from the papers' formulas: token by token, slot by slot, in float64.

Plain torch numbers, so that autograd gives the gradients of these formulas, and of nothing that the fast layers do. The
query of a head is two halves; its parameters are laid out as the layers lay them out: side, head, (rank,) half key.
"""

from __future__ import annotations

import torch
from torch import Tensor

from memscale.config.layers import Memory, Peer
from memscale.models.memory import MemoryLayer
from memscale.models.peer import PeerLayer

EPS = 1e-5


def layer_output(layer: MemoryLayer | PeerLayer, part: Memory | Peer, x: Tensor, table: Tensor | None) -> Tensor:
    """Return [B, S, D] for inputs [B, S, D]; a batch norm takes its statistics from all tokens."""
    inputs = torch.stack([query_input(layer, part, sequence, at) for sequence in x for at in range(len(sequence))])
    queries = torch.stack([layer.query.weight @ one + layer.query.bias for one in inputs])
    queries = normed(layer, part, queries)
    rows = x.reshape(-1, x.shape[-1])
    outputs = [token_output(layer, part, one, query, table) for one, query in zip(rows, queries, strict=True)]
    return torch.stack(outputs).reshape(x.shape)


def query_input(layer: MemoryLayer | PeerLayer, part: Memory | Peer, sequence: Tensor, at: int) -> Tensor:
    if part.query_conv is None:
        return sequence[at]
    return sum(layer.query_conv.weight[:, j] * sequence[at - j] for j in range(min(part.query_conv, at + 1)))


def normed(layer: MemoryLayer | PeerLayer, part: Memory | Peer, queries: Tensor) -> Tensor:
    """Normalise queries [T, C] over the batch, or each head's two halves together."""
    if part.query_norm == "none":
        return queries
    if part.query_norm == "batch":
        centred = queries - queries.mean(0)
        out = centred / (centred.square().mean(0) + EPS).sqrt()
    else:
        half = part.key_width // 2
        out = torch.empty_like(queries)
        for head in range(part.num_heads):
            columns = [(side * part.num_heads + head) * half + i for side in (0, 1) for i in range(half)]
            own = queries[:, columns]
            centred = own - own.mean(1, keepdim=True)
            out[:, columns] = centred / (centred.square().mean(1, keepdim=True) + EPS).sqrt()
    return out * layer.query_norm.weight + layer.query_norm.bias


def unit_rms(vector: Tensor) -> Tensor:
    return vector / (vector.square().mean() + EPS).sqrt()


def head_scores(layer: MemoryLayer | PeerLayer, part: Memory | Peer, query: Tensor, head: int) -> dict[int, Tensor]:
    """Return slot -> score of the slots that a head may choose among."""
    half, size = part.key_width // 2, part.num_half_keys
    sides = []
    for side in (0, 1):
        first = (side * part.num_heads + head) * half
        own, keys = query[first : first + half], layer.keys[side, head].reshape(-1, size, half)
        if part.qk_norm:
            own = unit_rms(own)
        sides.append([[own @ (unit_rms(key) if part.qk_norm else key) for key in rank] for rank in keys])
    if part.core_rank is None:
        (rows,), (columns,) = sides
        return {i * size + j: rows[i] + columns[j] for i in range(size) for j in range(size)}
    core = layer.core[head]
    left, _, right = torch.linalg.svd(core.detach())
    u, v = left[:, 0], right[0]
    if u.sum() + v.sum() < 0:
        u, v = -u, -v
    ranks = range(part.core_rank)
    best_rows = best([sum(u[r] * sides[0][r][i] for r in ranks) for i in range(size)], part.knn)
    best_columns = best([sum(v[r] * sides[1][r][j] for r in ranks) for j in range(size)], part.knn)
    return {
        i * size + j: sum(core[r, s] * sides[0][r][i] * sides[1][s][j] for r in ranks for s in ranks)
        for i in best_rows
        for j in best_columns
    }


def best(scores: list[Tensor], count: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda i: -scores[i].item())[:count]


def selected(layer: MemoryLayer | PeerLayer, part: Memory | Peer, query: Tensor) -> list[tuple[int, Tensor]]:
    """Return the slots of a token and their weights, over all heads."""
    chosen = []
    for head in range(part.num_heads):
        scores = head_scores(layer, part, query, head)
        slots = sorted(scores, key=lambda slot, scores=scores: -scores[slot].item())[: part.knn]
        total = sum(scores[slot].exp() for slot in slots)
        for slot in slots:
            score = scores[slot]
            weight = {"softmax": score.exp() / total, "none": score, "relu": score if score > 0 else 0 * score}
            chosen.append((slot, weight[part.weights]))
    return chosen


def token_output(
    layer: MemoryLayer | PeerLayer, part: Memory | Peer, x: Tensor, query: Tensor, table: Tensor | None
) -> Tensor:
    """Return [D] of one token."""
    chosen = selected(layer, part, query)
    if isinstance(part, Peer):
        out = torch.zeros_like(x)
        for slot, weight in chosen:
            hidden = layer.input_table[slot] @ x
            gelu = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
            out = out + weight * gelu * layer.output_table[slot]
        return out
    gate = None
    if part.gated:
        before = layer.gate.weight @ x
        gate = before / (1 + (-before).exp())
    out, width = 0, part.value_width
    for slot, weight in chosen:
        block, row = divmod(permuted(slot, part), part.num_slots)
        value = (layer.table if table is None else table)[row]
        if gate is not None:
            value = value * gate
        if part.gated or part.projection:
            value = layer.out.weight[:, block * width : (block + 1) * width] @ value
        out = out + weight * value
    return out


def permuted(slot: int, part: Memory) -> int:
    """The place of a virtual slot: a multiplication modulo all of them, by a number without a common factor."""
    if part.expansion is None:
        return slot
    size = part.expansion * part.num_slots
    multiplier = int(size / 1.618033988749895)
    while any(size % divisor == 0 and multiplier % divisor == 0 for divisor in range(2, size + 1)):
        multiplier += 1
    return slot * multiplier % size
