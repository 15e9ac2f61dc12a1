"""AdamW with parameter groups, one of them optimised by Muon where that is asked for, and gradient clipping.

1. Decayed: every parameter of two or more dimensions (matrices, embeddings, experts, product keys). With
   `matrix_optimizer: muon` the matrices of the blocks are a group of their own (`memscale.training.muon`).
2. Not decayed: norm gains and biases.
3. Tables (of memory and PEER layers, shared or not): their own learning rate, schedule and decay. Their rows are
   optimised as they are looked up (`memscale.kernels.row_adamw`), or with `dense_adamw` as a group like the others.

Every parameter is in exactly one group. Raises ConfigError for what the row optimizer cannot do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from memscale.config.optimizer import Optimizer as OptimizerConfig
from memscale.kernels.memory_table import MemoryTable
from memscale.kernels.row_adamw import RowAdamW
from memscale.kernels.row_gradient import RowGradient
from memscale.models.counts import component
from memscale.models.transformer import Transformer
from memscale.planning.matrices import MATRIX_COMPONENTS
from memscale.training.muon import MuonGroup, heights, side_by_side


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters with one peak learning rate and one weight decay, and AdamW's moments of each."""

    parameters: dict[str, nn.Parameter]
    peak_rate: float
    weight_decay: float
    of_tables: bool = False
    """Whether these are tables, which have a schedule of their own and may be clipped apart."""
    first_moments: list[torch.Tensor] = field(init=False)
    second_moments: list[torch.Tensor] = field(init=False)

    def __post_init__(self) -> None:
        for name in ("first_moments", "second_moments"):
            object.__setattr__(self, name, [torch.zeros_like(parameter) for parameter in self.parameters.values()])

    def state(self) -> dict[str, torch.Tensor]:
        """Return the moments by `<which>.<parameter name>`: the tensors themselves, not copies."""
        named = dict[str, torch.Tensor]()
        for moment in ("first_moments", "second_moments"):
            tensors = zip(self.parameters, getattr(self, moment), strict=True)
            named.update({f"{moment}.{name}": tensor for name, tensor in tensors})
        return named


class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter 2019): p <- p (1 - lr wd) - lr m' / (sqrt(v') + eps).

    m' and v' are the bias-corrected moments. Runs torch's fused kernel, which touches each value once: 1.2 ms a step
    for 2.4M parameters on one core, against 4.1 ms of its other two. It is called directly because torch.optim imports
    the compiler, which costs every worker 1.5 s and 130 MB.

    Args:
        groups: The parameter groups, one of which may be Muon's; empty ones are dropped.
        config: Betas, eps, how gradients are clipped, and the tables' learning rate.
        rows: The optimizer of the tables; None if there are none, or they are in a group.
    """

    def __init__(
        self, groups: Sequence[ParameterGroup | MuonGroup], config: OptimizerConfig, rows: RowAdamW | None = None
    ) -> None:
        self.groups = [group for group in groups if group.parameters]
        self.rows = rows
        """The optimizer of the tables; None where there are none, or they are in a group."""
        self._config = config
        device = next(iter(self.groups[0].parameters.values())).device
        self._num_steps = torch.zeros((), dtype=torch.float32, device=device)

    @torch.no_grad()
    def step(self, lr_factor: float, table_factor: float | None = None) -> None:
        """Take one step; all parameters outside tables need gradients.

        Args:
            lr_factor: The learning rate, as a factor of each group's peak rate.
            table_factor: That of the tables; None: `lr_factor`.
        """
        table_factor = lr_factor if table_factor is None else table_factor
        self._num_steps += 1
        for group in self.groups:
            if isinstance(group, MuonGroup):
                group.step(lr_factor)
                continue
            parameters: list[torch.Tensor] = list(group.parameters.values())
            gradients = _dense_gradients(parameters)
            assert len(gradients) == len(parameters), "a parameter is not used by the model"
            torch._fused_adamw_(
                parameters,
                gradients,
                group.first_moments,
                group.second_moments,
                [],
                [self._num_steps] * len(parameters),
                lr=group.peak_rate * (table_factor if group.of_tables else lr_factor),
                beta1=self._config.beta1,
                beta2=self._config.beta2,
                weight_decay=group.weight_decay,
                eps=self._config.eps,
                amsgrad=False,
                maximize=False,
            )
        if self.rows is not None:
            self.rows.step(self._table_rate * table_factor)

    def clip(self, clip_norm: float) -> torch.Tensor:
        """Scale the gradients if their 2-norm exceeds `clip_norm` (0: never).

        `clipping: together` scales all gradients by one norm; `apart` those of the tables by theirs, and all others by
        theirs, as the code of Berges et al. (2024) does. Called once per step, on the whole batch's gradient; table
        rows that were not looked up have none. A norm that is not finite reaches the gradients and the weights, where
        the trainer notices it.

        Returns:
            The norm of all gradients before clipping, a scalar on the model's device.
        """
        if self._config.clipping == "together":
            return _clip(self.gradients(), self.rows, clip_norm)
        of_tables: list[torch.Tensor] = []
        others: list[torch.Tensor] = []
        for group in self.groups:
            into = of_tables if isinstance(group, ParameterGroup) and group.of_tables else others
            into += _dense_gradients(list(group.parameters.values()))
        norms = [_clip(others, None, clip_norm)]
        if of_tables or self.rows is not None:
            norms.append(_clip(of_tables, self.rows, clip_norm).to(norms[0]))
        norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms))
        return norm

    def gradients(self) -> list[torch.Tensor]:
        """Return the gradients of all parameters but the tables with a row optimizer."""
        return _dense_gradients([one for group in self.groups for one in group.parameters.values()])

    def row_gradients(self) -> list[RowGradient]:
        """Return the gradients of the tables with a row optimizer."""
        return [table.gradient for table in self.rows.tables.values()] if self.rows is not None else []

    def clear_gradients(self) -> None:
        """Discard the gradients of all parameters."""
        for group in self.groups:
            for parameter in group.parameters.values():
                parameter.grad = None
        if self.rows is not None:
            self.rows.clear_gradients()

    def flush(self) -> None:
        """Apply the pending updates of all table rows, so that the parameters are the result of all steps."""
        if self.rows is not None:
            self.rows.flush()

    def detach(self) -> None:
        """Release the tables: their rows stay as they are, and they are plain parameters again."""
        if self.rows is not None:
            self.rows.detach()

    def state(self) -> dict[str, torch.Tensor]:
        """Return the optimizer's state by `<what>.<parameter name>`: the tensors themselves, not copies."""
        named = dict[str, torch.Tensor]()
        for group in self.groups:
            named.update(group.state())
        return named if self.rows is None else {**named, **self.rows.state()}

    def resume(self, table_factors: Sequence[float]) -> None:
        """Count steps, at these factors of the tables' rate, as taken; the caller loads the tensors of `state`."""
        self._num_steps.fill_(len(table_factors))
        if self.rows is not None:
            self.rows.resume(self._table_rate * factor for factor in table_factors)

    @property
    def _table_rate(self) -> float:
        return self._config.table_learning_rate or self._config.learning_rate


def build_optimizer(model: Transformer, config: OptimizerConfig) -> AdamW:
    """Return AdamW, or AdamW and Muon, over all parameters of `model` (tied ones once), with moments of zero.

    Raises:
        ConfigError: The row optimizer cannot run with these betas.

    Example:
        >>> from memscale.config.architecture import Architecture
        >>> from memscale.models.transformer import build
        >>> architecture = Architecture(
        ...     family="dense", d_model=8, num_layers=1, num_heads=2, num_kv_heads=2,
        ...     head_width=4, ffn_hidden=16, vocab_size=50,
        ... )
        >>> config = OptimizerConfig(learning_rate=0.01, weight_decay=0.1)
    >>> optimizer = build_optimizer(build(architecture, seed=0), config)
        >>> [(len(group.parameters), group.weight_decay) for group in optimizer.groups]
        [(6, 0.1), (3, 0.0)]
    """
    with_muon = config.matrix_optimizer == "muon"
    matrices: dict[str, nn.Parameter] = {}
    by_muon: dict[str, nn.Parameter] = {}
    vectors: dict[str, nn.Parameter] = {}
    tables: dict[str, MemoryTable] = {}
    for name, parameter in model.named_parameters():
        if component(name) == "table":
            assert isinstance(parameter, MemoryTable)
            tables[name] = parameter
        elif parameter.ndim >= 2:
            (by_muon if with_muon and component(name) in MATRIX_COMPONENTS else matrices)[name] = parameter
        else:
            vectors[name] = parameter
    groups: list[ParameterGroup | MuonGroup] = [
        ParameterGroup(parameters=matrices, peak_rate=config.learning_rate, weight_decay=config.weight_decay),
        ParameterGroup(parameters=vectors, peak_rate=config.learning_rate, weight_decay=0.0),
        MuonGroup(
            parameters=by_muon,
            peak_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            heights={name: heights(name, parameter, model.architecture) for name, parameter in by_muon.items()},
            side_by_side={name: side_by_side(name, model.architecture) for name in by_muon},
        ),
    ]
    if not tables:
        return AdamW(groups, config)
    if config.table_optimizer == "dense_adamw":
        rate = config.table_learning_rate or config.learning_rate  # Run refuses a table without a rate of its own
        decay = config.table_weight_decay
        groups.append(ParameterGroup(parameters=dict(tables), peak_rate=rate, weight_decay=decay, of_tables=True))
        return AdamW(groups, config)
    rows = RowAdamW(
        tables,
        beta1=config.beta1,
        beta2=config.beta2,
        eps=config.eps,
        weight_decay=config.table_weight_decay,
        second_moments="row" if config.table_optimizer == "lazy_adamw_by_row" else "element",
        master=config.table_storage == "bfloat16_master",
    )
    return AdamW(groups, config, rows)


def _clip(gradients: list[torch.Tensor], rows: RowAdamW | None, clip_norm: float) -> torch.Tensor:
    """Scale gradients, and those of the rows, to a joint norm of at most `clip_norm`; return the norm before."""
    norms = list(torch._foreach_norm(gradients)) if gradients else []
    if rows is not None:
        squares = rows.squared_norms()
        device = norms[0] if norms else squares[0].float()
        norms += [square.sqrt().to(device) for square in squares]
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms))
    if clip_norm > 0:
        scale = clip_norm / norm
        # On the CPU, reading the norm costs nothing and saves a pass over the gradients; elsewhere it would wait.
        if norm.device.type != "cpu":
            scale = scale.clamp(max=1.0)
        elif scale >= 1.0:
            return norm
        if gradients:
            torch._foreach_mul_(gradients, scale)
        if rows is not None:
            rows.scale_gradients(scale)
    return norm


def _dense_gradients(parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The gradients there are; a table's sparse one is made dense where AdamW updates all its rows."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.to_dense()
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
