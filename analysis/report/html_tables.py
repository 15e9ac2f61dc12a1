"""The report's tables: what each shows, row by row. Numbers are formatted here, never computed."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis import formatting
from analysis.figures.palette import family_style, series_styles
from analysis.gains.differences import Difference
from analysis.gains.measures import Measure, loss_columns
from analysis.gains.multipliers import Multiplier
from analysis.gains.scaling_curves import FLOPS, SECONDS
from analysis.report.html import Cell, heading, named, table, words
from analysis.sweep.study import Study
from analysis.tables.runs import BoolArray, Budget


def series(study: Study, label: str) -> Cell:
    """A series' name in its colour."""
    return named(formatting.series(label), series_styles(study.results.compare)[label].colour)


def gains(study: Study, subject: str, baseline: str) -> str:
    """One pair: every measure at each budget, and its mean over budgets in bold."""
    rows: list[list[str | Cell]] = []
    strong = set()
    for measure in study.measures:
        comparison = study.comparison(subject, baseline, measure.column)
        if comparison is None:
            continue
        rows.append([heading(f"{measure.words}, {measure.unit}")])
        for difference in comparison.at_budgets:
            rows.append(_gain(measure, difference))
        if len(comparison.at_budgets) > 1:
            strong.add(len(rows))
            rows.append(_gain(measure, comparison.overall))
    return table(
        ("budget, FLOPs", "difference", "verdict", "of baseline"),
        rows,
        caption=f"{formatting.series(subject)} minus {formatting.series(baseline)}",
        strong=frozenset(strong),
    )


def _gain(measure: Measure, difference: Difference) -> list[str | Cell]:
    budget = "mean" if difference.budget_flops is None else formatting.power(difference.budget_flops)
    # A share of a share would only confuse: points have no percentage.
    percent = ""
    if measure.factor == 1 and np.isfinite(difference.percent):
        percent = formatting.with_interval(
            difference.percent, difference.percent_interval, sign=True, suffix=" %", most=1
        )
    return [
        budget,
        formatting.with_interval(difference.value, difference.interval, sign=True, most=measure.decimals),
        words(difference.verdict(measure.lower_is_better)),
        percent,
    ]


def laws(study: Study) -> str:
    """The coefficients of every series' law along FLOPs and seconds."""
    rows: list[list[str | Cell]] = []
    ruled = set()
    for curves in study.curves.values():
        ruled.add(len(rows))
        for name, curve in curves.series.items():
            alpha = float(curve.fit.slope(curve.fit.best)[0])
            offset = curve.fit.law.values(curve.fit.best).get("E")
            rows.append(
                [
                    series(study, name),
                    curves.axis.words,
                    formatting.with_interval(alpha, curve.slope_interval(), most=4),
                    *([] if offset is None else [formatting.significant(float(offset[0]))]),
                    formatting.significant(float(curve.loss(np.array([curve.upper_x]))[0]), 4),
                    f"{curve.num_budgets} / {curve.fit.num_runs}",
                ]
            )
    offsets = ["offset E"] if any("E" in curves.law.formula for curves in study.curves.values()) else []
    head = (
        "series",
        "against",
        "exponent \N{GREEK SMALL LETTER ALPHA}",
        *offsets,
        "loss at its end",
        "budgets / runs",
    )
    return table(head, rows, ruled=frozenset(ruled - {0}))


def multipliers(study: Study) -> str:
    """What a series is worth in compute and in seconds, and the loss at equal seconds."""
    rows: list[list[str | Cell]] = []
    for subject, baseline in study.pairs:
        for axis in (FLOPS, SECONDS):
            one, difference = study.multiplier(subject, baseline, axis), study.law_difference(subject, baseline, axis)
            if one is None or difference is None:
                continue
            at = formatting.power(one.at) + " FLOPs" if axis is FLOPS else formatting.duration(one.at)
            rows.append(
                [
                    series(study, subject),
                    series(study, baseline),
                    at,
                    formatting.with_interval(difference.value, difference.interval, sign=True),
                    _multiplier(one),
                ]
            )
    head = ("series", "against", "at equal", "loss by the laws, nats", "is worth")
    return table(head, rows) if rows else ""


def _multiplier(one: Multiplier) -> str | Cell:
    if one.value is None:
        return words(f"no multiplier: {one.refusal}", wrap=True)
    what = "compute" if one.axis == FLOPS.key else "time"
    note = f" ({one.note})" if one.note else ""
    return f"{formatting.times(one.value, one.interval)} {what}{note}"


def mismatches(study: Study) -> str:
    """The worst mismatch of what the sweep holds equal."""
    rows: list[list[str | Cell]] = [
        [
            words(mismatch.words),
            words(mismatch.among),
            f"{100 * mismatch.value:.2f} %",
            budget_words(study, mismatch.budget),
            series(study, mismatch.smallest) if mismatch.value > 0 else "",
            series(study, mismatch.largest) if mismatch.value > 0 else "",
        ]
        for mismatch in study.mismatches
    ]
    return table(("held equal", "among", "largest mismatch", "at budget, FLOPs", "smallest", "largest"), rows)


def budget_words(study: Study, budget: Budget) -> str:
    """A budget's FLOPs, with the width of its models (or its name) where another budget has as many."""
    runs, flops = study.results.compare, formatting.power(budget.flops)
    if sum(other.flops == budget.flops for other in runs.budgets()) == 1:
        return flops
    widths = set(runs.number("d_model")[runs.at(budget)].tolist()) if runs.has("d_model") else set()
    return f"{flops}, width {widths.pop():.0f}" if len(widths) == 1 else f"{flops}, {budget.name}"


def means(study: Study) -> str:
    """Means over seeds, a row a series and budget: sizes, losses, recall, cost."""
    runs = study.results.compare
    rows: list[list[str | Cell]] = []
    ruled = set()
    kinds = _columns(study)
    for budget in runs.budgets():
        ruled.add(len(rows))
        for name in runs.labels:
            cell = runs.of(name, budget)
            if cell.any():
                sizes = [_mean(study, kind, cell) for kind in kinds]
                rows.append([series(study, name), budget_words(study, budget), str(int(cell.sum())), *sizes])
    head = ("series", "budget, FLOPs", "seeds", *(_title(kind) for kind in kinds))
    return table(head, rows, ruled=frozenset(ruled - {0}))


def runs(study: Study) -> str:
    """Every compared run, with the standard errors of its scores."""
    compared = study.results.compare
    kinds = _columns(study)
    rows: list[list[str | Cell]] = []
    for index in np.argsort(compared.row):
        one = np.zeros(len(compared), dtype=bool)
        one[index] = True
        cells = [_mean(study, kind, one, with_error=True) for kind in kinds]
        rows.append(
            [words(compared.name[index]), series(study, compared.series[index]), str(int(compared.seed[index])), *cells]
        )
    return table(("run", "series", "seed", *(_title(kind) for kind in kinds)), rows)


def _columns(study: Study) -> list[str]:
    """Columns of the run tables that this results table fills: sizes, losses, scores, cost."""
    compared = study.results.compare
    slots = ["num_slots"] if compared.has_some("num_slots") else []
    fixed = [*slots, "params_total", "params_active", "tokens", "flops_train", "loss_nats"]
    losses = loss_columns(compared, "loss_nats_") + loss_columns(compared, "loss_bpb_")
    scores = sorted(name for name in compared.numbers if name.startswith("score_") and not name.endswith("_stderr"))
    cost = ["train_seconds", "peak_memory_bytes"]
    return [name for name in (*fixed, *losses, *scores, *cost) if name in slots or compared.has(name)]


TITLES = {
    "num_slots": "slots",
    "params_total": "parameters",
    "params_active": "active",
    "tokens": "tokens",
    "flops_train": "training FLOPs",
    "loss_nats": "loss, nats",
    "train_seconds": "training time",
    "peak_memory_bytes": "peak memory",
}


def _title(column: str) -> str:
    if column in TITLES:
        return TITLES[column]
    for prefix, unit in (("loss_nats_", "nats"), ("loss_bpb_", "bits per byte")):
        if column.startswith(prefix):
            return f"{column.removeprefix(prefix)}, {unit}"
    return column.removeprefix("score_").replace("_", " ")


def _mean(study: Study, column: str, mask: BoolArray, *, with_error: bool = False) -> str:
    compared = study.results.compare
    value = float(compared.number(column)[mask].mean())
    if column == "num_slots":
        return formatting.slots(value) if np.isfinite(value) else ""
    if column in ("params_total", "params_active", "tokens"):
        return formatting.count(value)
    if column == "flops_train":
        return formatting.power(value)
    if column == "train_seconds":
        return formatting.duration(value)
    if column == "peak_memory_bytes":
        return formatting.size(value)
    shown = formatting.fixed(value, 3) if abs(value) < 100 else formatting.significant(value)
    error = f"{column}_stderr"
    if with_error and compared.has(error):
        shown += f" ± {formatting.fixed(float(compared.number(error)[mask].mean()), 3)}"
    return shown


def left_out(study: Study) -> str:
    """Rows that carry no part of the answer, and why."""
    rows: list[list[str | Cell]] = [
        [
            words(one["name"]),
            named(formatting.series(one["series"]), _colour(study, one)),
            formatting.power(one["budget_flops"]),
            str(one["seed"]),
            words(one["stage"]),
            words(one["status"]),
            words(one["reason"], wrap=True),
            str(one["row"]),
        ]
        for one in study.results.left_out.to_dict("records")
    ]
    return table(("run", "series", "budget, FLOPs", "seed", "stage", "status", "why", "row"), rows)


def _colour(study: Study, one: dict[Any, Any]) -> str:
    """Of the series, or where no run of it is done of its family."""
    styles = series_styles(study.results.compare)
    return (styles.get(one["series"]) or family_style(one["family"])).colour
