"""`python -m analysis design`: the next runs that would narrow the best split most, as a sweep file."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from analysis import formatting
from analysis.allocation.design import Design, design
from analysis.card import FORMAT
from analysis.cli import fit_options, table_options
from analysis.cli.output import TERMINAL, print_json, print_warnings, write_json
from analysis.errors import TableError
from analysis.fitting import fit
from analysis.laws.registry import law_named
from analysis.tables import Observations, atomic_write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    table_options.add_table(parser)
    fit_options.add_fit(parser)
    parser.add_argument("--law", metavar="LAW", default="chinchilla", help="of N and D (default chinchilla)")
    parser.add_argument("--target", type=float, metavar="C", required=True, help="FLOPs whose best split is wanted")
    parser.add_argument("--budget", type=float, metavar="C", required=True, help="FLOPs to spend on the next runs")
    parser.add_argument("--runs", type=int, metavar="K", default=12, help="at most so many (default 12)")
    parser.add_argument("--sweep", metavar="FILE", type=Path, help="write a sweep file that memscale's planner reads")
    parser.add_argument("--family", metavar="NAME", default="dense", help="of the sweep's models (default dense)")
    parser.add_argument("--scale", metavar="NAME", default="laptop", help="the sweep's scale (default laptop)")
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write JSON (without FILE: print it)")


def run(chosen: argparse.Namespace) -> int:
    if chosen.runs < 1:
        raise TableError(f"--runs {chosen.runs}: at least one run")
    points = table_options.observations(chosen, reads={"N", "D"})
    found = design(
        fit(points, law_named(chosen.law), **fit_options.choices(chosen)),
        target_flops=chosen.target,
        budget_flops=chosen.budget,
        most_runs=chosen.runs,
    )
    content = _as_json(found, points)
    if chosen.sweep is not None:
        atomic_write.write(chosen.sweep, _sweep(found, chosen.family, chosen.scale).encode())
    if chosen.json == TERMINAL:
        print_json(content)
        return 0
    if chosen.json is not None:
        write_json(Path(chosen.json), content)
    _show(found)
    print_warnings(points.warnings)
    if chosen.sweep is not None:
        print(chosen.sweep)
    return 0


def _as_json(found: Design, points: Observations) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "table": points.source,
        "target_flops": found.target_flops,
        "half_width_now": found.half_width_now,
        "flops": found.flops,
        "runs": [
            {
                "flops": one.flops,
                "params": one.params,
                "tokens": one.tokens,
                "tokens_per_param": one.tokens_per_param,
                "half_width": one.half_width,
            }
            for one in found.runs
        ],
        "warnings": list(points.warnings),
    }


def _show(found: Design) -> None:
    now = math.exp(found.half_width_now)
    print(f"the best N at {formatting.power(found.target_flops)} FLOPs is known to a factor of {now:.3g} (95 %)")
    for one in found.runs:
        print(
            f"  {formatting.power(one.flops)} FLOPs: N {formatting.count(one.params)}, D {formatting.count(one.tokens)}"
            f" ({formatting.significant(one.tokens_per_param)} tokens per parameter): then to a factor of"
            f" {math.exp(one.half_width):.3g}"
        )
    print(f"in all {formatting.power(found.flops)} FLOPs")


def _sweep(found: Design, family: str, scale: str) -> str:
    """A sweep of these runs, each an isoFLOP of one size; its widths are the planner's to find."""
    lines = [
        f"# The next runs of a design for the best split at {found.target_flops:.4g} FLOPs; each is one size at one",
        "# number of FLOPs.",
        f"question: What is the best split of {found.target_flops:.4g} FLOPs?",
        "",
        "defaults:",
        f"  - scale: {scale}",
        "  - data: facts_and_code",
        "  - recipe: default",
        "  - launcher: auto",
        "  - evaluate: default",
        f"  - family@families.{family}: {family}",
        "  - _self_",
        "",
        "matching:",
        "  total_over_dense: 4",
        "",
        "scale:",
        "  budgets: []",
        "  isoflops:",
    ]
    for one in _merged(found):
        lines.append(
            f"    - {{flops: [{one[0]:.6e}], points: 1, span: 2, tokens_per_parameter: {one[1]:g},"
            " shapes: {head_width: 8, width_per_layer: 16, least_layers: 2}}"
        )
    return "\n".join(lines) + "\n"


def _merged(found: Design) -> list[tuple[float, float]]:
    """FLOPs and tokens per parameter of every different run: a run that pays twice is trained with more seeds."""
    return sorted({(one.flops, round(one.tokens_per_param, 6)) for one in found.runs})
