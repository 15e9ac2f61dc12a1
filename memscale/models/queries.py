"""Product-key selection, shared by memory and PEER layers (Lample et al. 2019): queries, half keys, best slots.

1. A linear map gives each head a query of two halves; with `query_conv` of a causal convolution of the inputs
   (`memscale.models.query_convolution`).
2. Each half is scored against its own N half keys; the best knn of the N x N slots are selected
   (`memscale.kernels.product_keys`), and a softmax over their scores gives their weights. With other `weights` they are
   the scores themselves, or what of them is positive (Huang et al. 2024).

With a core, a half key has R vectors and a score is Tucker-decomposed (`memscale.kernels.tucker_keys`; TDQKR, Huang et
al. 2024). Slots are found by the core's rank-1 approximation, so a loss holds its other singular values below a margin:
weight / (R - 1) sum of max(0, value - 0.15)^2, averaged over heads.

A score is the plain dot product, not divided by the root of the width as attention's is: on facts to be recalled (1,000
people, 6 attributes, 0.5M tokens, half keys of width 16, one seed) 43 % were recalled so, and 28 % with the division;
49 against 25 and 31 against 22 % at other learning rates.

With qk_norm, query halves and half keys are normalised to unit RMS first (without gains). With query_norm the whole
query is normalised, with a gain and a bias for each of its H * 2 W values: "batch" over the tokens of a micro-batch,
"layer" over each head's 2 W values (Ba et al. 2016).

Shape suffixes: T tokens, D model width, H heads, R ranks, N half keys per set, K = H * knn slots per token, W width of
a half key, C = H * 2 W.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memscale.config.layers import Memory, Peer
from memscale.kernels.product_keys import product_key_topk
from memscale.kernels.tucker_keys import minor_singular_values, tucker_key_topk
from memscale.models.cache import LayerCache
from memscale.models.precision import promoted
from memscale.models.query_convolution import QueryConvolution
from memscale.models.synchronized_norm import SumOver, moments, normalised
from memscale.models.usage import Usage
from memscale.models.value_expansion import VirtualTables

BATCH_NORM_MOMENTUM = 0.1
"""Weight of a batch in the running statistics, as in torch and in Lample et al.'s code."""


CORE_PENALTY = 0.001
"""Default weight of the core's loss, and the margin below which a singular value costs nothing (Huang et al. 2024)."""
CORE_MARGIN = 0.15
_WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda scores_THK: scores_THK.softmax(dim=-1),
    "relu": F.relu,
    "none": lambda scores_THK: scores_THK,
}


class ProductKeySelection(nn.Module):
    """Queries with a bias, half keys [2, H, N, W] ([2, H, R, N, W] with cores [H, R, R]), the query's norm if any."""

    def __init__(self, d_model: int, part: Memory | Peer, norm_eps: float) -> None:
        super().__init__()
        self._num_heads, self._knn, self._half_width = part.num_heads, part.knn, part.key_width // 2
        self._weights = part.weights
        self._virtual: VirtualTables | None = None
        if isinstance(part, Memory) and part.expansion is not None:
            self._virtual = VirtualTables(part.num_slots, part.expansion)
        self._qk_norm, self._norm_eps = part.qk_norm, norm_eps
        width = part.num_heads * part.key_width
        self.query = nn.Linear(d_model, width)
        """Its outputs, and the norm's gains and biases, are in the order [2, H, W]."""
        self.query_conv = None if part.query_conv is None else QueryConvolution(d_model, part.query_conv)
        self.query_norm: QueryBatchNorm | QueryLayerNorm | None = None
        if part.query_norm == "batch":
            self.query_norm = QueryBatchNorm(width, norm_eps)
        elif part.query_norm == "layer":
            self.query_norm = QueryLayerNorm(part.num_heads, width, norm_eps)
        ranks = () if part.core_rank is None else (part.core_rank,)
        self.keys = nn.Parameter(torch.empty(2, part.num_heads, *ranks, part.num_half_keys, self._half_width))
        self.core = None if part.core_rank is None else nn.Parameter(torch.empty(part.num_heads, *ranks, *ranks))
        self._core_penalty = CORE_PENALTY if part.core_penalty is None else part.core_penalty

    def is_noncausal(self, training: bool) -> bool:
        """Whether another token, later ones included, can change this one's output."""
        return training and isinstance(self.query_norm, QueryBatchNorm)

    def query_inputs(self, x_BSD: Tensor, cache: LayerCache | None) -> Tensor:
        """Return what queries are made of, [T, D]: the layer's inputs, convolved if configured."""
        return (x_BSD if self.query_conv is None else self.query_conv(x_BSD, cache)).flatten(0, 1)

    def selected(self, x_TD: Tensor, usage: Usage | None) -> tuple[Tensor, Tensor]:
        """Return the slots of every token, int64 [T, K], and their weights [T, K]; a softmax sums to one in each head.

        Slots are virtual ones where values are expanded. `usage` accumulates the magnitudes of the weights by row, if
        given.
        """
        query_T2HW, keys = self._queries_and_keys(x_TD)
        core_HRR: Tensor | None = self.core
        if core_HRR is None:
            slots_THK, scores_THK = product_key_topk(query_T2HW, keys, self._knn)
        else:
            slots_THK, scores_THK = tucker_key_topk(query_T2HW, keys, core_HRR, self._knn)
        slots_TK = slots_THK.flatten(1)
        weights_TK = _WEIGHTS[self._weights](scores_THK).flatten(1)
        if self._virtual is not None:
            slots_TK = self._virtual.permuted(slots_TK)
        if usage is not None:
            rows_TK = slots_TK if self._virtual is None else self._virtual.rows(slots_TK)
            usage.add_at(rows_TK, weights_TK.abs())
        return slots_TK, weights_TK

    def core_loss(self) -> Tensor | None:
        """Return the weighted loss of the cores, a scalar; None where there is nothing to penalise."""
        core_HRR: Tensor | None = self.core
        if core_HRR is None or core_HRR.shape[-1] == 1 or self._core_penalty == 0:
            return None
        return self._core_penalty * F.relu(minor_singular_values(core_HRR) - CORE_MARGIN).square().mean()

    def _queries_and_keys(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Return half queries [T, 2, H, W] and half keys [2, H, (R,) N, W], normalised if configured."""
        bias_C: Tensor = self.query.bias
        if isinstance(self.query_norm, QueryBatchNorm):
            # The norm cancels the bias: its gradient would be rounding noise, which Adam scales up to whole steps that
            # differ from machine to machine. Multiplied by zero, it has no effect and a gradient of exactly zero.
            bias_C = 0 * bias_C
        query_TC = F.linear(x_TD, self.query.weight, bias_C)
        if self.query_norm is not None:
            query_TC = self.query_norm(query_TC)
        query_T2HW = query_TC.view(-1, 2, self._num_heads, self._half_width)
        keys: Tensor = self.keys
        if self._qk_norm:
            query_T2HW = F.rms_norm(query_T2HW, (self._half_width,), eps=self._norm_eps)
            keys = F.rms_norm(keys, (self._half_width,), eps=self._norm_eps)
        return query_T2HW, keys


class QueryBatchNorm(nn.Module):
    """Batch normalisation of every query value (Ioffe and Szegedy 2015), as Lample et al. end their query network.

    In training the statistics are those of the tokens of a micro-batch, so tokens influence each other, earlier ones
    too; those of all processes if each holds one micro-batch (`memscale.training.batch_norms`). In evaluation they are
    running means over training, so each token is independent. Computed in float32 at least.
    """

    running_mean: Tensor
    running_var: Tensor
    sum_over: SumOver | None = None
    """Sums over the processes that hold the batch's other tokens; None: the tokens at hand are all."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self._eps = eps
        self.weight, self.bias = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.register_buffer("running_mean", torch.empty(width))
        self.register_buffer("running_var", torch.empty(width))

    def reset_buffers(self) -> None:
        """Reset the running statistics: mean zero, variance one."""
        self.running_mean.zero_()
        self.running_var.fill_(1.0)

    def forward(self, query_TC: Tensor) -> Tensor:
        """Return the normalised queries [T, C], float32 at least."""
        if self.training and self.sum_over is not None:
            return self._over_processes(promoted(query_TC), self.sum_over)
        return F.batch_norm(
            promoted(query_TC),
            self.running_mean,
            self.running_var,
            promoted(self.weight),
            promoted(self.bias),
            training=self.training,
            momentum=BATCH_NORM_MOMENTUM,
            eps=self._eps,
        )

    def _over_processes(self, query_TC: Tensor, sum_over: SumOver) -> Tensor:
        found = moments(query_TC, sum_over)
        self.running_mean.lerp_(found.mean_C.to(self.running_mean.dtype), BATCH_NORM_MOMENTUM)
        self.running_var.lerp_(found.unbiased_variance_C.to(self.running_var.dtype), BATCH_NORM_MOMENTUM)
        normed_TC = normalised(query_TC, found, self._eps, sum_over)
        return torch.addcmul(promoted(self.bias), normed_TC, promoted(self.weight))


class QueryLayerNorm(nn.Module):
    """Each head's query, both halves together, to mean zero and variance one; a gain and a bias per value."""

    def __init__(self, num_heads: int, width: int, eps: float) -> None:
        super().__init__()
        self._num_heads, self._eps = num_heads, eps
        self.weight, self.bias = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))

    def forward(self, query_TC: Tensor) -> Tensor:
        """Return the normalised queries [T, C], float32 at least."""
        query_TH2W = promoted(query_TC).view(len(query_TC), 2, self._num_heads, -1).transpose(1, 2)
        normed_TH2W = F.layer_norm(query_TH2W, query_TH2W.shape[-2:], eps=self._eps)
        return torch.addcmul(self.bias, normed_TH2W.transpose(1, 2).flatten(1), self.weight)
