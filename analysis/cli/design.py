"""`python -m analysis design`: the next runs that would narrow the compute-optimal N most, as a sweep file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from analysis.allocation.design import Design
from analysis.allocation.design_from_table import design
from analysis.card import card
from analysis.cli import fit_options, table_options
from analysis.cli.output import TERMINAL, print_json, print_warnings, write_json
from analysis.tables import Observations, atomic_write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    table_options.add_table(parser)
    fit_options.add_fit(parser)
    parser.add_argument("--law", metavar="LAW", default="chinchilla", help="of N and D (default chinchilla)")
    parser.add_argument("--target", type=float, metavar="C", required=True, help="FLOPs whose optimal N is wanted")
    parser.add_argument("--budget", type=float, metavar="C", required=True, help="FLOPs to spend on the next runs")
    parser.add_argument("--runs", type=int, metavar="K", default=12, help="at most so many settings (default 12)")
    parser.add_argument("--seeds", type=int, metavar="M", default=1, help="runs of each setting (default 1)")
    parser.add_argument("--sweep", metavar="FILE", type=Path, help="write a sweep file that memscale's planner reads")
    parser.add_argument("--family", metavar="NAME", default="dense", help="of the sweep's models (default dense)")
    parser.add_argument("--scale", metavar="NAME", default="laptop", help="the sweep's scale (default laptop)")
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write JSON (without FILE: print it)")


def run(chosen: argparse.Namespace) -> int:
    """Answer, print or write. Raises AnalysisError."""
    observations = table_options.observations(chosen, reads={"N", "D"})
    found = design(
        observations, target=chosen.target, budget=chosen.budget, runs=chosen.runs, seeds=chosen.seeds, law=chosen.law,
        **fit_options.choices(chosen),
    )  # fmt: skip
    content = as_json(found, observations)
    if chosen.sweep is not None:
        atomic_write.write(chosen.sweep, sweep_text(found, chosen.family, chosen.scale).encode())
    if chosen.json == TERMINAL:
        print_json(content)
        return 0
    if chosen.json is not None:
        write_json(Path(chosen.json), content)
    print(found.summary())
    print_warnings(observations.warnings)
    if chosen.sweep is not None:
        print(chosen.sweep)
    return 0


def as_json(found: Design, observations: Observations) -> dict[str, Any]:
    """The card of kind 'design'."""
    return card(
        "design", observations,
        target_flops=found.target_flops,
        half_width_now=found.half_width_now,
        flops=found.flops,
        runs=[
            {
                "flops": one.flops,
                "params": one.params,
                "tokens": one.tokens,
                "tokens_per_param": one.tokens_per_param,
                "seeds": list(one.seeds),
                "half_width": one.half_width,
            }
            for one in found.runs
        ],
    )  # fmt: skip


def sweep_text(found: Design, family: str, scale: str) -> str:
    """A sweep of these runs, each an isoFLOP of one size; its widths are the planner's to find."""
    lines = [
        f"# The next runs for the optimal N and D at {found.target_flops:.4g} FLOPs: each is one size at one budget.",
        f"question: What are the optimal N and D of {found.target_flops:.4g} FLOPs?",
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
        f"  seeds: {list(found.runs[0].seeds)}",
        "  budgets: []",
        "  isoflops:",
    ]
    for one in found.runs:
        lines.append(
            f"    - {{flops: [{one.flops:.6e}], points: 1, span: 2, tokens_per_parameter: {one.tokens_per_param:g},"
            " shapes: {head_width: 8, width_per_layer: 16, least_layers: 2}}"
        )
    return "\n".join(lines) + "\n"
