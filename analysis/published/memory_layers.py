"""The tables of "Memory Layers at Scale" (Berges et al. 2024, arXiv 2412.09764): gaps closed, and the law of Figure 1.

The published numbers are single runs without error bars, so what follows from them has none either. The paper fits no
law; the fits here are ours: the answers' NLL against the parameters of the table, M_inf + A T^-alpha on its four table
sizes, and how many table parameters it takes to reach the dense 7B model by it. Decides nothing about whether the
comparison was fair: its MoE uses expert choice, which later work found to be a weak baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.downstream.gap import gap_closed
from analysis.fitting import fit_law
from analysis.published import sources
from analysis.published.comparison import Comparison, Line
from analysis.published.fits import Find
from analysis.published.sources import find
from analysis.tables import read

TASKS = ("NQ", "TQA", "PIQA", "OBQA", "HotPot")
TABLE_1 = {  # at 1.3b: total parameters in billions, then NQ EM, TQA F1, PIQA, OBQA, HotPot F1
    "dense": (1.3, 7.76, 32.64, 72.74, 23.40, 13.92),
    "MoE": (3.545, 8.14, 31.46, 73.72, 25.20, 15.15),
    "PEER": (3.646, 12.33, 42.46, 73.34, 26.60, 15.39),
    "Memory": (3.377, 9.83, 39.47, 72.29, 25.80, 15.46),
    "Memory+ 1m": (3.377, 13.68, 42.89, 75.35, 26.80, 16.72),
    "Memory+ 4m": (9.823, 14.43, 51.18, 75.03, 27.80, 18.59),
    "Memory+ 16m": (35.618, 20.14, 58.67, 76.39, 26.80, 20.65),
    "Memory+ 64m": (138.748, 20.78, 62.14, 77.31, 30.00, 20.47),
    "Llama2 7B": (7.0, 25.10, 64.00, 78.40, 33.20, 25.00),
}
TABLE_2 = {  # 8B base: HellaSwag, HotPot, HumanEval, MBPP, MMLU, NQ, OBQA, PIQA, TQA
    "llama3.1 15T": (60.05, 27.85, 37.81, 48.20, 66.00, 29.45, 34.60, 79.16, 70.36),
    "dense 200B": (53.99, 20.41, 21.34, 30.80, 41.35, 18.61, 31.40, 78.02, 51.741),
    "Memory+ 200B": (54.33, 21.75, 23.17, 29.40, 50.14, 19.36, 30.80, 79.11, 57.64),
    "dense 1T": (58.90, 25.26, 29.88, 44.20, 59.68, 25.24, 34.20, 80.52, 63.62),
    "Memory+ 1T": (60.29, 26.06, 31.71, 42.20, 63.04, 27.06, 34.40, 79.82, 68.15),
}
TASKS_2 = ("HellaSwag", "HotPot", "HumanEval", "MBPP", "MMLU", "NQ", "OBQA", "PIQA", "TQA")
READING_ERROR = {"accuracy": 0.15, "nll": 0.04}
"""Of the digitised figure."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of Figure 1."""

    task: str
    metric: str
    table_params: tuple[float, ...]
    values: tuple[float, ...]
    dense_7b: float


def figure_1(path: Path) -> tuple[Curve, ...]:
    """The digitised figure."""
    points = read(path).sort_values("memory_param_count", kind="stable")
    return tuple(
        Curve(
            task=str(task),
            metric=str(metric),
            table_params=tuple(rows["memory_param_count"].astype(float)),
            values=tuple(rows["value"].astype(float)),
            dense_7b=float(rows["dense_7b_2T_baseline"].iloc[0]),
        )
        for (task, metric), rows in points.groupby(["task", "metric"])
    )


def memory_layers(where: Find = find) -> Comparison:
    """Figure 1 against Table 1, and the gap to the dense 7B model by the tables."""
    curves = figure_1(where(sources.MEMORY_FIGURE))
    printed = {"NQ": 1, "TQA": 2}
    rows = ("dense", "Memory", "Memory+ 4m", "Memory+ 16m", "Memory+ 64m")
    lines = [
        Line(
            what=f"{curve.task}, {row}: Table 1 and Figure 1",
            published=TABLE_1[row][printed[curve.task]],
            ours=value,
            tolerance=READING_ERROR["accuracy"] + 0.1,
        )
        for curve in curves
        if curve.metric == "accuracy"
        for row, value in zip(rows, curve.values, strict=True)
    ]
    notes = [_law(curve) for curve in curves if curve.metric == "nll"]
    for at, task in enumerate(TASKS, start=1):
        share = gap_closed(TABLE_1["dense"][at], TABLE_1["Memory+ 64m"][at], TABLE_1["Llama2 7B"][at])
        moe = gap_closed(TABLE_1["dense"][at], TABLE_1["MoE"][at], TABLE_1["Llama2 7B"][at])
        notes.append(f"{task}: of the gap from dense 1.3b to Llama2 7B, Memory+ 64m closes {share:.0%}, MoE {moe:.0%}")
    gains = [TABLE_2["Memory+ 1T"][at] - TABLE_2["dense 1T"][at] for at in range(len(TASKS_2))]
    notes.append(
        f"at 8B and 1T tokens Memory+ is above dense in {sum(gain > 0 for gain in gains)} of {len(gains)} tasks,"
        f" by {np.mean(gains):+.2f} points on average"
    )
    return Comparison(
        name="memory_layers",
        title="Memory Layers at Scale: Table 1, Table 2 and Figure 1",
        source="Berges et al. 2024, arXiv 2412.09764",
        lines=tuple(lines),
        notes=tuple(notes),
    )


def _law(curve: Curve) -> str:
    """Ours: the NLL against the table's parameters, on the sizes above zero."""
    params, values = np.array(curve.table_params[1:]), np.array(curve.values[1:])
    found = fit_law("power_with_offset", {"x": params}, values, objective="log_lsq")
    offset, alpha = found.values["E"], found.values["alpha"]
    floor = "none" if "E" in found.at_bound else f"{offset:.2f}"
    above = curve.dense_7b - (0.0 if "E" in found.at_bound else offset)
    reached = f"{(found.values['A'] / above) ** (1 / alpha):.2g} table parameters" if above > 0 else "no table"
    return (
        f"{curve.task} NLL against table parameters, a fit of ours to {len(params)} sizes: exponent {alpha:.3f},"
        f" floor {floor}; by it {reached} would reach the dense 7B model's {curve.dense_7b:g} (an extrapolation)"
    )
