"""Planned runs: the series of a sweep at its budgets, matched, counted and given their training tokens.

`SeriesMatcher` yields each series at each budget without seeds and learning rates (`SeriesAtBudget`); `RunBuilder` adds
these, and with them the run id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import fmean

from memscale.config.architecture import Architecture
from memscale.config.matching import Matching
from memscale.config.names import STEM, check_name
from memscale.config.optimizer import Optimizer
from memscale.config.run import Digests, Run
from memscale.config.sweep import Sweep
from memscale.errors import PlanError
from memscale.planning.accounting import TRAINING_PASSES, Counts, count
from memscale.planning.budgets import DenseBaseline
from memscale.planning.cells import Series
from memscale.planning.identity import Identities
from memscale.planning.match_targets import Matched
from memscale.planning.matching import match
from memscale.planning.names import number_name
from memscale.planning.quantities import measure
from memscale.planning.recipes import optimizer
from memscale.planning.tuning import Rates, round_of_stage, seeds_of_round, stage_of_round

PlanDigests = Digests | Mapping[str, Digests]
"""Digests of the data: one for all budgets, or by the budget's name where sources are sized by budget."""


def digests_of(digests: PlanDigests, budget: str) -> Digests:
    """Return the digests of a budget's data. Raises PlanError where there are none."""
    if isinstance(digests, Digests):
        return digests
    if budget not in digests:
        raise PlanError(
            f"the budget {budget} has no digests of data; there are those of {', '.join(digests)}. Take the digests of "
            "every budget's data (memscale.launch.budget_data.plan_digests)"
        )
    return digests[budget]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun:
    """A run and its place in the plan; `run` is None while its learning rate depends on an earlier stage."""

    name: str
    stage: str
    series: str
    """Label of its curve: the family's name and the settings that the grid varies."""
    family: str
    """dense, moe, ...: one of `memscale.config.architecture.FAMILIES`."""
    family_name: str
    """The family's name in the sweep; learning rates are tuned once for all of its series."""
    budget: str
    budget_flops: float
    seed: int
    architecture: Architecture
    counts: Counts
    tokens: int
    batch_tokens: int
    flops_train: float
    flops_mismatch: float
    """FLOPs per token / those of the budget's dense model - 1."""
    params_mismatch: float | None
    """Total parameters / mean of the budget's sparse models - 1; None for dense and looped ones."""
    mismatch: tuple[tuple[str, float], ...]
    """(quantity, value / dense model's value - 1) for each quantity that the sweep holds equal per token."""
    run: Run | None = None
    run_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class SeriesAtBudget:
    """A series at a budget: the runs of the compare stage that differ only in their seed."""

    series: Series
    baseline: DenseBaseline
    planned: PlannedRun
    seeds: tuple[int, ...]


class SeriesMatcher:
    """Matches the series of a sweep at each of its budgets."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._matches: dict[tuple[Architecture, tuple[str, ...]], dict[str, Matched]] = {}

    def at(self, baseline: DenseBaseline, here: Mapping[str, tuple[Series, list[int]]]) -> Iterator[SeriesAtBudget]:
        """Yield every series of `here` (label -> series and seeds), matched to `baseline`. Raises PlanError."""
        matching, length = self._sweep.matching, self._sweep.scale.sequence_length
        matched = self._match(baseline.dense, {label: series for label, (series, _) in here.items()})
        counted = {label: count(one.architecture, length) for label, one in matched.items()}
        sparse = [counted[label].params_total for label, one in matched.items() if one.architecture.is_sparse]
        for label, (series, seeds) in here.items():
            architecture, counts = matched[label].architecture, counted[label]
            tokens = _tokens(baseline, series, architecture, matching, length)
            planned = PlannedRun(
                name=_name(label, baseline.name),
                stage="compare",
                series=label,
                family=architecture.family,
                family_name=series.family_name,
                budget=baseline.name,
                budget_flops=baseline.flops,
                seed=0,
                architecture=architecture,
                counts=counts,
                tokens=tokens,
                batch_tokens=baseline.batch_tokens,
                flops_train=TRAINING_PASSES * counts.flops_per_token_forward * tokens,
                flops_mismatch=counts.flops_per_token_forward / baseline.flops_per_token - 1,
                params_mismatch=counts.params_total / fmean(sparse) - 1 if architecture.is_sparse else None,
                mismatch=matched[label].mismatch,
            )
            yield SeriesAtBudget(series=series, baseline=baseline, planned=planned, seeds=tuple(seeds))

    def _match(self, dense: Architecture, here: Mapping[str, Series]) -> dict[str, Matched]:
        """Match the series to `dense`; budgets of one shape with the same series share the result."""
        key = (dense, tuple(f"{label} {series.family}" for label, series in here.items()))
        if key not in self._matches:
            families = {label: series.family for label, series in here.items()}
            scale = self._sweep.scale
            self._matches[key] = match(dense, families, self._sweep.matching, scale.sequence_length)
        return self._matches[key]


class RunBuilder:
    """Completes planned runs with learning rates, seed and run id."""

    def __init__(self, sweep: Sweep, digests: PlanDigests) -> None:
        self._sweep, self._digests = sweep, digests
        self._optimizers = dict[Rates, Optimizer]()
        self.identities = Identities()

    def tuning(self, planned: PlannedRun, stage: str, points: Iterable[Rates]) -> list[PlannedRun]:
        """Return the tuning runs of a family at `points`, each with every seed of the stage's round."""
        recipe, found = self._sweep.recipe, list[PlannedRun]()
        first = recipe.tune_seeds[0]
        number = round_of_stage(stage)
        for rates in points:
            stem = _name(planned.series, planned.budget)
            name = f"{stage_of_round(number)}-{stem}-lr{number_name(rates.learning_rate)}"
            if rates.table_learning_rate is not None:
                name += f"-table{number_name(rates.table_learning_rate)}"
            for seed in seeds_of_round(recipe, number):
                full = name if seed == first else f"{name}-s{seed}"
                found.append(self.complete(planned, rates, stage=stage, seed=seed, name=full))
        return found

    def complete(
        self, planned: PlannedRun, rates: Rates, *, seed: int, name: str, stage: str = "compare"
    ) -> PlannedRun:
        """Return `planned` with a seed, learning rates and the run id that follows from them."""
        sweep = self._sweep
        if rates not in self._optimizers:
            self._optimizers[rates] = optimizer(sweep.recipe, rates)
        run = Run(
            architecture=planned.architecture,
            optimizer=self._optimizers[rates],
            schedule=sweep.recipe.schedule,
            tokens=planned.tokens,
            batch_tokens=planned.batch_tokens,
            sequence_length=sweep.scale.sequence_length,
            seed=seed,
            validations=sweep.evaluate.validations,
            digests=digests_of(self._digests, planned.budget),
            average=sweep.recipe.average,
            table_schedule=sweep.recipe.table_schedule if planned.architecture.has_table else None,
            init=sweep.recipe.init,
        )
        return replace(planned, name=name, stage=stage, seed=seed, run=run, run_id=self.identities.run_id(run))


def _name(label: str, budget: str) -> str:
    """Return the name of a run of a series at a budget. Raises ConfigError where it is no name of a folder."""
    return check_name(
        f"the name of the runs of '{label}' at {budget}", f"{label.replace(' ', '-').replace('=', '')}-{budget}", STEM
    )


def _tokens(
    baseline: DenseBaseline, series: Series, architecture: Architecture, matching: Matching, sequence_length: int
) -> int:
    """Return the budget's tokens, or the whole batches that cost as many FLOPs or seconds as the dense run."""
    if matching.equal_length == "tokens" or architecture.family == "dense":
        return baseline.tokens
    name = "flops_per_token" if matching.equal_length == "flops_train" else "seconds_per_token"
    speeds = {one.name: one.flops_per_second for one in matching.throughput}
    dense = measure(name, baseline.dense, sequence_length, speeds.get("dense"))
    own = measure(name, architecture, sequence_length, speeds.get(series.family_name))
    return max(1, round(baseline.tokens * dense / own / baseline.batch_tokens)) * baseline.batch_tokens
