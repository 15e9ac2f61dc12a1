"""Limits of the study, derived from the table: seeds, range, tuning, matching, and settings that were not varied."""

from __future__ import annotations

import numpy as np

from analysis import formatting
from analysis.report.html_tables import budget_words
from analysis.sweep.matching import TOLERANCE
from analysis.sweep.study import Study
from analysis.tables.runs import Runs, settings

MOST_NAMED = 6
"""Series and budgets without a run that are listed by name."""


def limits(study: Study) -> tuple[str, ...]:
    """Sentences for the report, the most important first."""
    return (
        *_seeds(study),
        *_range(study),
        *study.warnings,
        *_matching(study),
        *_tuning(study),
        *_causality(study),
        *_never_varied(study),
    )


def _seeds(study: Study) -> list[str]:
    runs = study.results.compare
    counts = [int(runs.of(*cell).sum()) for cell in runs.cells()]
    what = "family" if runs.labels == runs.families else "series"
    if max(counts) == 1:
        return [
            f"One seed at each budget and {what}: the noise of a run is unknown, and no difference has an interval."
        ]
    few = min(counts)
    said = [
        f"{few} seed{'s' if few > 1 else ''} at {'each' if few == max(counts) else 'the thinnest'} budget and {what}. A"
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
    budgets = runs.flops_budgets()
    span = f"{formatting.power(budgets[0])} to {formatting.power(budgets[-1])} FLOPs" if len(budgets) > 1 else (
        f"{formatting.power(budgets[0])} FLOPs only"
    )  # fmt: skip
    size = ""
    if runs.has("params_total"):
        params = runs.number("params_total")
        size = f", {formatting.count(float(params.min()))} to {formatting.count(float(params.max()))} parameters"
    said = [f"Measured at {span}{size}. Nothing here says that the gain holds at larger scale."]
    partial = [
        f"{formatting.series(label)} at {budget_words(study, budget)}"
        + ("" if "," in budget_words(study, budget) else " FLOPs")
        for label in runs.labels
        for budget in runs.budgets()
        if not runs.of(label, budget).any()
    ]
    if partial:
        shown = ", ".join(partial[:MOST_NAMED]) + (
            f" and {len(partial) - MOST_NAMED} more" if len(partial) > MOST_NAMED else ""
        )
        said.append(f"No run is done of {shown}; averages are over the budgets that both sides have.")
    return said


def _matching(study: Study) -> list[str]:
    return [
        f"{mismatch.words} differ by {mismatch.value:.1%} at {formatting.power(mismatch.budget.flops)} FLOPs"
        f" ({formatting.series(mismatch.smallest)} least, {formatting.series(mismatch.largest)} most): not quite equal."
        for mismatch in study.mismatches
        if mismatch.value > TOLERANCE
    ]


def _tuning(study: Study) -> list[str]:
    said = []
    for one in study.learning_rates:
        if one.edges:
            said.append(f"{formatting.family(one.family)} was tuned at the edge of its sweep ({', '.join(one.edges)}).")
    if any(one.tuning_runs for one in study.learning_rates):
        seeds = {one.lead.num_seeds if one.lead is not None else 1 for one in study.learning_rates}
        told = " to ".join(str(number) for number in sorted({min(seeds), max(seeds)}))
        said.append(
            f"Learning rates were tuned at one budget, the last choice with {told} seed{'s' * (told != '1')} a"
            " rate, and used at every budget; the best may move with scale."
        )
    return said


def _causality(study: Study) -> list[str]:
    """Families whose forward pass in training differs from that in evaluation."""
    runs, column = study.results.compare, "training_sees_later_tokens"
    if not runs.has(column):
        return []
    flags = runs.number(column)
    labels = [formatting.series(label) for label in runs.labels if (flags[runs.of(label)] > 0).any()]
    if not labels:
        return []
    return [
        f"In training, though not in evaluation, later tokens can change earlier ones in {', '.join(labels)}: experts"
        " choose among all tokens of a sequence, and batch normalisation sees all tokens of a batch (so its result"
        " depends on how many fit into memory at once). In evaluation each token chooses its experts."
    ]


def _never_varied(study: Study) -> list[str]:
    runs = study.results.compare
    varied = {key for label in runs.labels for key in settings(label)}
    said = []
    if "moe" in runs.families and "num_experts" not in varied:
        said.append(
            "One number of experts a budget, set by matching total parameters; other numbers of experts and other"
            " routers were not tried."
        )
    if any(family in runs.families for family in ("memory_plus", "memory", "pkm", "peer")):
        kinds = (
            ("table size", ("num_slots",)),
            ("number and place of the memory layers", ("layers", "centred", "stride")),
            ("number of heads", ("num_heads",)),
            ("number of selected slots", ("knn",)),
        )
        fixed = [words for words, keys in kinds if not varied & set(keys)]
        if fixed:
            listed = fixed[0] if len(fixed) == 1 else f"{', '.join(fixed[:-1])} and {fixed[-1]}"
            said.append(f"Not varied inside the memory families at one budget: {listed}.")
    if "looped" in runs.families:
        said += _loops(runs, varied)
    if study.isoflops is not None:
        said.append(
            "The optimal size is the minimum of a curve through the sizes tried; its interval carries the noise of the"
            " runs, not the error of a curve of another shape."
        )
    families = [family for family in runs.families if len(runs.series_of(family)) > 1]
    if families and any(one.tuning_runs for one in study.learning_rates):
        names = ", ".join(formatting.family(family) for family in families)
        said.append(
            f"The learning rates of {names} were tuned for one of its settings and used for all; another setting may"
            " do better with its own."
        )
    if _knowledge(runs) is not None:
        said.append(
            f"The facts hold {formatting.count(_knowledge(runs) or 0.0)}bit of knowledge. How that compares with what a"
            " dense model can hold decides how much a table can help; only one amount, fixed beforehand, was tried."
        )
    return said


def _knowledge(runs: Runs) -> float | None:
    if not runs.has("knowledge_bits"):
        return None
    bits = float(np.max(runs.number("knowledge_bits")))
    return bits if bits > 0 else None


def _loops(runs: Runs, varied: set[str]) -> list[str]:
    """What looped models do not hold equal, and what of them was not tried."""
    said = []
    if runs.has("params_total") and "dense" in runs.families:
        params = runs.number("params_total")
        cells = [
            (params[runs.of(label, budget)], params[runs.of(runs.reference("dense"), budget)])
            for label in runs.series_of("looped")
            for budget in runs.budgets()
        ]
        ratios = [float(np.mean(own) / np.mean(dense)) for own, dense in cells if len(own) and len(dense)]
        if ratios:
            low, high = formatting.significant(min(ratios)), formatting.significant(max(ratios))
            said.append(
                f"Looped models share layers, so at equal compute they have fewer parameters than any other family:"
                f" {low if low == high else f'{low} to {high}'} of the dense models'."
            )
    if "recurrences" not in varied:
        said.append("One number of recurrences, the same in training and evaluation; more of them were not tried.")
    return said
