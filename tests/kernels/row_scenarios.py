"""A small training run on one table, done by dense AdamW and by the row optimizer, for tests.

Several layers look up rows of the table in several micro-batches a step. Rows are Zipf-distributed, so that some are
looked up at every step, some once in hundreds, and the last ten never. The gradient of a token's output is noise plus a
share of that output, so a row that was looked up without its pending update changes the run.

S steps, L lookups a step (layers of all micro-batches), T tokens, K slots per token, N rows, V width of a row.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from memscale.kernels.embedding_bag import embedding_bag
from memscale.kernels.memory_table import MemoryTable
from memscale.kernels.row_adamw import RowAdamW

BETAS = (0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Sizes and settings of the run."""

    num_steps: int = 1000
    dtype: torch.dtype = torch.float64
    eps: float = 1e-12
    scale: float = 1.0
    """Factor on all gradients."""
    weight_decay: float = 0.1
    peak_rate: float = 1e-3
    num_layers: int = 3
    num_micro_batches: int = 4
    num_tokens: int = 6
    num_slots: int = 310
    width: int = 16
    zipf: float = 1.5
    coupling: float = 0.1
    """The output's share in its gradient."""
    max_norm: float = 40.0
    """Of the gradient, over `scale`; some of the norms that occur are above it."""

    def rates(self) -> list[float]:
        """Warm-up over a tenth of the steps, then linear decay to zero."""
        warm = max(1, self.num_steps // 10)
        last = self.num_steps - 1
        return [self.peak_rate * min((i + 1) / warm, (last - i) / (last - warm)) for i in range(self.num_steps)]

    def initial(self) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        rows_NV = 0.2 * torch.randn(self.num_slots, self.width, generator=generator, dtype=torch.float64)
        return rows_NV.bfloat16().to(self.dtype)

    def draws(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return slots [S, L, T, K], weights of the same shape, and noise [S, L, T, V]."""
        slots, weights, noise = _draws(replace(self, dtype=torch.float64, eps=1.0, scale=1.0))
        return slots, weights.to(self.dtype), noise.to(self.dtype)


@functools.cache
def _draws(scenario: Scenario) -> tuple[Tensor, Tensor, Tensor]:
    """Equal for all types: values that bfloat16 represents exactly."""
    generator = torch.Generator().manual_seed(2)
    shape = (scenario.num_steps, scenario.num_layers * scenario.num_micro_batches, scenario.num_tokens)
    chances_N = torch.arange(1, scenario.num_slots + 1, dtype=torch.float64) ** -scenario.zipf
    chances_N[-10:] = 0.0
    slots = torch.multinomial(chances_N, torch.Size(shape).numel() * 3, replacement=True, generator=generator)
    weights = torch.rand(*shape, 3, generator=generator, dtype=torch.float64).bfloat16()
    noise = torch.randn(*shape, scenario.width, generator=generator, dtype=torch.float64).bfloat16()
    return slots.view(*shape, 3), weights, noise


class DenseRun:
    """The run as torch does it: a dense gradient, `clip_grad_norm_` and AdamW on all rows."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.rates, self.draws = scenario, scenario.rates(), scenario.draws()
        self.table = nn.Parameter(scenario.initial())
        self.optimizer = torch.optim.AdamW(
            [self.table], lr=0.0, betas=BETAS, eps=scenario.eps, weight_decay=scenario.weight_decay
        )

    def step(self, i: int) -> tuple[Tensor, Tensor]:
        """Take step i, from 0. Return what the tokens got [L, T, V] and the gradient's norm."""
        slots, weights, noise = (drawn[i] for drawn in self.draws)
        with torch.no_grad():
            out = (self.table[slots] * weights[..., None]).sum(dim=-2)
            x = self.scenario.scale * (noise + self.scenario.coupling * out)
            lookups = (weights[..., None] * x[..., None, :]).flatten(0, -2)
            self.table.grad = torch.zeros_like(self.table).index_add_(0, slots.flatten(), lookups)
        norm = nn.utils.clip_grad_norm_([self.table], self.scenario.max_norm * self.scenario.scale)
        self.optimizer.param_groups[0]["lr"] = self.rates[i]
        self.optimizer.step()
        return out, norm

    def movement(self) -> float:
        return float((self.table.detach() - self.scenario.initial()).abs().max())


class LazyRun:
    """The run as the library does it."""

    def __init__(
        self, scenario: Scenario, backend: str | None = None, *, table: MemoryTable | None = None, **options: object
    ):
        self.scenario, self.rates, self.draws = scenario, scenario.rates(), scenario.draws()
        self.backend, self.options = backend, options
        self.table = MemoryTable(scenario.initial()) if table is None else table
        self.optimizer = RowAdamW(
            {"values": self.table},
            beta1=BETAS[0],
            beta2=BETAS[1],
            eps=scenario.eps,
            weight_decay=scenario.weight_decay,
            backend=backend,
            **options,
        )

    def step(self, i: int) -> tuple[Tensor, Tensor]:
        """As `Dense.step`."""
        slots, weights, noise = (drawn[i] for drawn in self.draws)
        scenario, outs = self.scenario, []
        for micro_batch in torch.arange(len(slots)).chunk(scenario.num_micro_batches):
            found = [embedding_bag(self.table, slots[a], weights[a], backend=self.backend) for a in micro_batch]
            gradients = [
                scenario.scale * (noise[a] + scenario.coupling * out.detach())
                for a, out in zip(micro_batch, found, strict=True)
            ]
            torch.autograd.backward(found, gradients)
            outs += [out.detach() for out in found]
        norm = torch.stack(self.optimizer.squared_norms()).sum().sqrt()
        self.optimizer.scale_gradients((scenario.max_norm * scenario.scale / (norm + 1e-6)).clamp(max=1.0))
        self.optimizer.step(self.rates[i])
        return torch.stack(outs), norm

    def resumed(self) -> LazyRun:
        """Return the run as it goes on in another process: from the table, the state, and the rates so far."""
        table = MemoryTable(self.table.detach().clone())
        other = LazyRun(self.scenario, self.backend, table=table, **self.options)
        for name, tensor in other.optimizer.state().items():
            tensor.copy_(self.optimizer.state()[name])
        other.optimizer.resume(self.rates[: self.optimizer.num_steps])
        return other

    def snapshot(self) -> dict[str, Tensor]:
        """Return copies of all that a later step depends on."""
        kept = {"table": self.table.data, **self.optimizer.state()}
        return {name: tensor.clone() for name, tensor in kept.items()}


def bitwise_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two results of `bits` are equal in every bit."""
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def max_difference(one: Tensor, other: Tensor) -> float:
    """The largest difference."""
    return float((one.detach() - other.detach()).abs().max())
