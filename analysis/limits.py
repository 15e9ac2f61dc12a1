"""What the study cannot show, derived from the table: seeds, range, tuning, matching, and what was never varied."""

from __future__ import annotations

import numpy as np

from analysis import numbers
from analysis.fairness import TOLERANCE
from analysis.study import Study
from analysis.table import Runs


def limits(study: Study) -> tuple[str, ...]:
    """Sentences for the report, the most important first."""
    return (*_seeds(study), *_range(study), *study.warnings, *_matching(study), *_tuning(study), *_never_varied(study))


def _seeds(study: Study) -> list[str]:
    runs = study.results.compare
    counts = [int(runs.of(family, budget).sum()) for family in runs.families for budget in runs.budgets(family)]
    if max(counts) == 1:
        return ["One seed at each budget and family: the noise of a run is unknown, and no difference has an interval."]
    few = min(counts)
    said = [
        f"{few} seed{'s' if few > 1 else ''} at {'each' if few == max(counts) else 'the thinnest'} budget and family. A"
        " cell's own spread says little with so few, so the noise is pooled over all cells and taken to be the same in"
        " each; seeds vary the initial weights and the order of the data, not the data."
    ]
    if study.recall is not None:
        said.append(
            "Recall is asked with one set of questions, the same for every run; its noise is never taken below the"
            " standard error of that many questions. Near 0 and 100 % it is smaller than in between, which pooling"
            " does not see."
        )
    return said


def _range(study: Study) -> list[str]:
    runs = study.results.compare
    budgets = runs.budgets()
    span = f"{numbers.power(budgets[0])} to {numbers.power(budgets[-1])} FLOPs" if len(budgets) > 1 else (
        f"{numbers.power(budgets[0])} FLOPs only"
    )  # fmt: skip
    size = ""
    if runs.has("params_total"):
        params = runs.number("params_total")
        size = f", {numbers.count(float(params.min()))} to {numbers.count(float(params.max()))} parameters"
    said = [f"Measured at {span}{size}. Nothing here says that the gain holds at larger scale."]
    partial = [
        f"{numbers.family(family)} at {numbers.power(budget)} FLOPs"
        for family in runs.families
        for budget in budgets
        if not runs.of(family, budget).any()
    ]
    if partial:
        said.append(f"No run is done of {', '.join(partial)}; averages are over the budgets that both families have.")
    return said


def _matching(study: Study) -> list[str]:
    return [
        f"{gap.words} differ by {gap.gap:.1%} at {numbers.power(gap.budget_flops)} FLOPs"
        f" ({numbers.family(gap.smallest)} least, {numbers.family(gap.largest)} most): not quite equal."
        for gap in study.gaps
        if gap.gap > TOLERANCE
    ]


def _tuning(study: Study) -> list[str]:
    said = []
    for one in study.tuned:
        if one.edges:
            said.append(f"{numbers.family(one.family)} was tuned at the edge of its sweep ({', '.join(one.edges)}).")
    if any(one.tried for one in study.tuned):
        said.append(
            "Learning rates were tuned at the smallest budget, with one seed, and used at every budget; the best may"
            " move with scale."
        )
    return said


def _never_varied(study: Study) -> list[str]:
    runs = study.results.compare
    said = []
    if "moe" in runs.families:
        said.append(
            "One number of experts a budget, set by matching total parameters; other numbers of experts and other"
            " routers were not tried."
        )
    if any(family in runs.families for family in ("memory_plus", "memory", "pkm", "peer")):
        said.append("One table size a budget; the number of memory layers, heads and selected slots was not varied.")
    if _knowledge(runs) is not None:
        said.append(
            f"The facts hold {numbers.count(_knowledge(runs) or 0.0)}bit of knowledge. How that compares with what a"
            " dense model can hold decides how much a table can help; only one amount, fixed beforehand, was tried."
        )
    return said


def _knowledge(runs: Runs) -> float | None:
    if not runs.has("knowledge_bits"):
        return None
    bits = float(np.max(runs.number("knowledge_bits")))
    return bits if bits > 0 else None
