"""`python -m analysis isoflop`: the compute-optimal N and D for given FLOPs by all three approaches, side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.allocation.curve import LEAST_SIZES
from analysis.allocation.from_table import isoflop
from analysis.allocation.minima import DEFAULT_METHOD
from analysis.cli import fit_options, table_options
from analysis.cli.output import TERMINAL, print_json, print_warnings, write_json
from analysis.errors import FitError
from analysis.report.allocation_json import isoflop_card


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    table_options.add_table(parser)
    parser.add_argument(
        "--method", choices=tuple(LEAST_SIZES), default=DEFAULT_METHOD,
        help=f"of approach 2's curves (default {DEFAULT_METHOD}); the others stand beside it",
    )  # fmt: skip
    fit_options.add_fit(parser)  # of approach 3's law
    parser.add_argument("--flops-at", metavar="C,...", help="FLOPs whose optimum is given (default: by the table)")
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write JSON (without FILE: print it)")
    parser.add_argument("--figures", metavar="DIR", type=Path, help="draw the curves and the frontier into this folder")


def run(chosen: argparse.Namespace) -> int:
    """Answer, print or write. Raises AnalysisError."""
    observations = table_options.observations(chosen, reads={"N", "D"})
    found = isoflop(observations, at=_flops(chosen.flops_at), method=chosen.method, **fit_options.choices(chosen))
    content = isoflop_card(found, observations)
    made: list[Path] = []
    if chosen.json not in (None, TERMINAL):
        made.append(write_json(Path(chosen.json), content))
    if chosen.figures is not None:
        from analysis.figures import allocation  # matplotlib takes most of the start

        made += allocation.write(found, chosen.figures)
    if chosen.json == TERMINAL:
        print_json(content)
    else:
        print(f"{observations.source}: {found.summary()}")
        print_warnings(observations.warnings)
        print("".join(f"{path}\n" for path in made), end="")
    return 0


def _flops(asked: str | None) -> list[float] | None:
    if asked is None:
        return None
    try:
        return [float(one) for one in asked.split(",")]
    except ValueError:
        raise FitError(f"--flops-at {asked}: give numbers above 0, such as 1e21,1e22") from None
