"""What a plan compares: the measures of its results, the pairs of its series, and the seeds that each pair shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from memscale.config.data import Data, Facts
from memscale.planning.planned_runs import PlannedRun

MOST_SERIES = 24
"""With more series each is compared with the dense one alone."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure whose resolution is stated."""

    key: str
    """Its key under `resolve`."""
    column: str
    """Its column in the results."""
    words: str
    unit: str
    factor: float = 1.0
    """From the column's unit to this one."""


LOSS = Measure(key="loss_nats", column="loss_nats", words="loss", unit="nats")
DENSE_RECALL = Measure(
    key="recall_points", column="score_dense_facts_recall", words="recall of dense facts", unit="points", factor=100.0
)
BITS = Measure(
    key="bits_per_parameter",
    column="bits_stored_per_parameter",
    words="bits stored",
    unit="bits per dense parameter",
)
RECALL = Measure(
    key="recall_points", column="score_facts_recall_acc", words="recall of people", unit="points", factor=100.0
)
MEASURES = (LOSS, DENSE_RECALL, BITS, RECALL)


@dataclass(frozen=True, kw_only=True)
class Design:
    """The compared runs of a plan: which series has which seeds at which budgets."""

    seeds: Mapping[str, Mapping[str, frozenset[int]]]
    """Series -> budget -> seeds; budgets by increasing FLOPs."""
    families: Mapping[str, str]
    """Series -> kind of its family."""
    names: Mapping[str, str]
    """Series -> name of its family in the sweep."""

    def with_seeds(self, num_seeds: int) -> Design:
        """Return the design with `num_seeds` seeds in every cell."""
        cells = {series: {budget: frozenset(range(num_seeds)) for budget in at} for series, at in self.seeds.items()}
        return Design(seeds=cells, families=self.families, names=self.names)


def design_of(runs: Iterable[PlannedRun]) -> Design:
    """Return the design of the compare stage among `runs`."""
    compared = sorted((run for run in runs if run.stage == "compare"), key=lambda run: run.budget_flops)
    found: dict[str, dict[str, set[int]]] = {}
    for run in compared:
        found.setdefault(run.series, {}).setdefault(run.budget, set()).add(run.seed)
    return Design(
        seeds={series: {name: frozenset(seeds) for name, seeds in at.items()} for series, at in found.items()},
        families={run.series: run.family for run in compared},
        names={run.series: run.family_name for run in compared},
    )


def measures_of(data: Data, *, scored: bool) -> tuple[Measure, ...]:
    """Return the measures that a sweep's results will have; `scored`: whether tasks are evaluated."""
    kinds = {source.kind for source in data.sources}
    found = [LOSS]
    if scored and "dense_facts" in kinds:
        found += [DENSE_RECALL, BITS]
    if scored and Facts.kind in kinds:
        found.append(RECALL)
    return tuple(found)


def pairs(design: Design) -> Iterator[tuple[str, str]]:
    """Yield (subject, baseline): every series against each dense one, and the sparse ones with each other."""
    dense = [series for series, family in design.families.items() if family == "dense"]
    others = [series for series in design.families if series not in dense]
    yield from combinations(reversed(dense), 2)
    yield from ((series, baseline) for series in others for baseline in dense)
    if len(design.families) <= MOST_SERIES:
        yield from ((later, earlier) for earlier, later in combinations(others, 2))


def shared_seeds(design: Design, one: str, other: str) -> dict[str, frozenset[int]]:
    """Return the seeds that both have at each budget that both have, by increasing FLOPs."""
    at = design.seeds[other]
    both = {budget: seeds & at[budget] for budget, seeds in design.seeds[one].items() if budget in at}
    return {budget: seeds for budget, seeds in both.items() if seeds}
