"""How the learning rates were tuned: a paragraph with the cost, and a table of each choice and how sure it is."""

from __future__ import annotations

from analysis import formatting
from analysis.figures.palette import series_styles
from analysis.report.html import Cell, named, table, words
from analysis.sweep.learning_rates import LearningRateChoice, tuning_cost
from analysis.sweep.study import Study

_HEAD = (
    "family", "learning rate", "table's", "tried", "runs", "rounds", "lead over the next best", "diverged",
    "at an edge?",
)  # fmt: skip


def said(study: Study) -> str:
    """Whether rates were tuned, whether a choice lies at an edge, and what the tuning cost."""
    edges = [one for one in study.learning_rates if one.edges]
    swept = [one for one in study.learning_rates if len({tried.learning_rate for tried in one.tuning_runs}) > 1]
    if not swept:
        text = (
            "The table holds no learning-rate sweep: a difference between families may be one between learning rates."
        )
    elif edges:
        names = ", ".join(formatting.family(one.family) for one in edges)
        text = f"At the edge of its sweep: {names}. A wider sweep may make it better than it looks here."
    else:
        text = "Each family has its own learning rate, chosen by its tuning loss; none lies at the edge of its sweep."
    cost = tuning_cost(study.results)
    if cost is None:
        return text
    runs = formatting.counted(cost.num_runs, "tuning run")
    seconds = "" if cost.share_of_seconds is None else f" and {cost.share_of_seconds:.0%} of their seconds"
    return f"{text} The {runs} took {cost.share_of_flops:.0%} of the training FLOPs of all runs{seconds}."


def table_of_choices(study: Study) -> str:
    """Each family's choice, how far it leads over the next best, and where it lies in its sweep."""
    rows: list[list[str | Cell]] = []
    for one in study.learning_rates:
        rates = sorted({tried.learning_rate for tried in one.tuning_runs})
        factors = sorted({tried.table_factor for tried in one.tuning_runs if tried.table_factor is not None})
        rows.append(
            [
                named(formatting.family(one.family), series_styles(study.results.compare)[one.series].colour),
                "" if one.learning_rate is None else f"{one.learning_rate:g}",
                "" if one.table_factor is None else f"{formatting.TIMES}{one.table_factor:.4g}",
                words(_swept(rates, factors)),
                str(len(one.tuning_runs)),
                str(one.num_rounds),
                words(_lead(one)),
                str(one.diverged),
                words(_edge(one)),
            ]
        )
    return table(_HEAD, rows)


def _swept(rates: list[float], factors: list[float]) -> str:
    if not rates:
        return "nothing"
    text = ", ".join(f"{rate:g}" for rate in rates)
    return text + (f"; table {formatting.TIMES}" + ", ".join(f"{factor:.4g}" for factor in factors) if factors else "")


def _lead(one: LearningRateChoice) -> str:
    """How far the best rates are below the next best of the last round, with the standard error."""
    if one.lead is None:
        return ""
    error = one.lead.standard_error
    told = "one seed" if error is None else f"± {error:.2g}, {one.lead.num_seeds} seeds"
    return f"{one.lead.nats:.2g} nats ({told})"


def _edge(one: LearningRateChoice) -> str:
    parts = [", ".join(one.edges) if one.edges else "no" if one.tuning_runs else "not swept", one.note]
    return "; ".join(part for part in parts if part)
