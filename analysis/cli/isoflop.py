"""`python -m analysis isoflop`: the best N and D for given FLOPs by all three approaches, side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from analysis import formatting
from analysis.allocation.approaches import Approaches, approaches
from analysis.allocation.diagnostics import warnings_of
from analysis.allocation.isoflop import LEAST_SIZES, Frontier, PowerFit
from analysis.card import FORMAT
from analysis.cli import table_options
from analysis.cli.output import TERMINAL, print_json, print_warnings, write_json
from analysis.errors import FitError, TableError
from analysis.fitting import OBJECTIVES, FitWarning
from analysis.report import fit_json
from analysis.tables import Observations


def add_arguments(parser: argparse.ArgumentParser) -> None:
    table_options.add_table(parser)
    parser.add_argument("--method", choices=tuple(LEAST_SIZES), default="parabola", help="of approach 2")
    parser.add_argument("--objective", choices=tuple(OBJECTIVES), default="log_huber", help="of approach 3")
    parser.add_argument("--delta", type=float, metavar="D", help="of a Huber objective")
    parser.add_argument("--bootstrap", type=int, metavar="B", default=1000, help="resamples for bands (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    parser.add_argument("--flops-at", metavar="C,...", help="FLOPs whose best split is given (default: by the table)")
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write JSON (without FILE: print it)")
    parser.add_argument("--figures", metavar="DIR", type=Path, help="draw the curves and the frontier into this folder")


def run(chosen: argparse.Namespace) -> int:
    points = table_options.observations(chosen, reads={"N", "D"})
    columns = points.columns
    if "N" not in columns or "D" not in columns:
        raise TableError("isoFLOP curves need --params COL, and --tokens COL or --flops COL")
    flops_N = columns.get("C", 6.0 * columns["N"] * columns["D"])
    found = approaches(
        columns["N"],
        columns["D"],
        flops_N,
        points.loss,
        flops=_flops(chosen.flops_at, float(flops_N.min()), float(flops_N.max())),
        method=chosen.method,
        objective=chosen.objective,
        delta=chosen.delta,
        num_replicates=chosen.bootstrap,
        seed=chosen.seed,
    )
    warnings = warnings_of(found, {**columns, "C": flops_N})
    content = as_json(found, points, warnings)
    made: list[Path] = []
    if chosen.json not in (None, TERMINAL):
        made.append(write_json(Path(chosen.json), content))
    if chosen.figures is not None:
        from analysis.figures import allocation  # matplotlib takes most of the start

        made += allocation.write(found, columns["N"], flops_N, points.loss, chosen.figures)
    if chosen.json == TERMINAL:
        print_json(content)
    else:
        show(found, points, warnings)
        print("".join(f"{path}\n" for path in made), end="")
    return 0


def _flops(asked: str | None, least: float, most: float) -> list[float]:
    if asked is None:
        return [least, most, 10.0 * most]
    try:
        flops = [float(one) for one in asked.split(",")]
    except ValueError:
        flops = []
    if not flops or not all(np.isfinite(one) and one > 0 for one in flops):
        raise FitError(f"--flops-at {asked}: give numbers above 0, such as 1e21,1e22")
    return flops


def as_json(found: Approaches, points: Observations, warnings: tuple[FitWarning, ...]) -> dict[str, Any]:
    """All approaches with every minimum, and the law's own card."""
    return {
        "format": FORMAT,
        "table": points.source,
        "n": len(points),
        "exclusions": [{"row": one.row, "rule": one.rule, "reason": one.reason} for one in points.exclusions],
        "approaches": {
            **{one.approach: _frontier(one, found) for one in found.frontiers},
            **({} if found.law is None else {"3 (law)": fit_json.body(found.law, found.splits)}),
        },
        "missing": found.missing,
        "warnings": [
            *({"code": "table", "text": text} for text in points.warnings),
            *({"code": one.code, "text": one.text} for one in warnings),
        ],
    }


def _frontier(one: Frontier, found: Approaches) -> dict[str, Any]:
    return {
        "a": _power(one.params),
        "b": _power(one.tokens),
        "splits": [
            {"flops": flops, "params": one.params.at(flops), "tokens": one.tokens.at(flops)} for flops in found.flops
        ],
        "minima": [
            {
                "flops": each.flops,
                "params": each.params,
                "tokens": each.tokens,
                "loss": each.loss,
                "points": each.num_points,
                "left_out": each.reason or None,
            }
            for each in one.minima
        ],
    }


def _power(one: PowerFit) -> dict[str, Any]:
    interval = None if one.exponent_ci95 is None else list(one.exponent_ci95)
    return {"exponent": one.exponent, "ci95": interval, "log10_intercept": one.intercept}


def show(found: Approaches, points: Observations, warnings: tuple[FitWarning, ...]) -> None:
    print(f"{len(points)} points of {points.source}; N* ~ C^a, D* ~ C^b, 95 % intervals in brackets\n")
    for one in found.frontiers:
        counted = (
            f"{len(one.used)} of {len(one.minima)} minima count"
            if one is found.isoflop
            else (f"{len(one.minima)} runs on it")
        )
        print(f"approach {one.approach}: {_exponents(one.params, one.tokens)}, {counted}")
        for flops in found.flops:
            print(_split(flops, one.params.at(flops), one.tokens.at(flops)))
    if found.law is not None:
        a, b = (found.law.coefficient(name) for name in ("a", "b"))
        print(
            f"approach 3 (law): a {a.value:.4f} [{a.ci95[0]:.4f}, {a.ci95[1]:.4f}], "
            f"b {b.value:.4f} [{b.ci95[0]:.4f}, {b.ci95[1]:.4f}]"
        )
        for split in found.splits:
            print(_split(split.flops, split.params, split.tokens))
    for name, reason in found.missing.items():
        print(f"approach {name}: not here: {reason}")
    print_warnings((*points.warnings, *(one.text for one in warnings)))


def _exponents(params: PowerFit, tokens: PowerFit) -> str:
    def one(name: str, power: PowerFit) -> str:
        ends = "" if power.exponent_ci95 is None else f" [{power.exponent_ci95[0]:.4f}, {power.exponent_ci95[1]:.4f}]"
        return f"{name} {power.exponent:.4f}{ends}"

    return f"{one('a', params)}, {one('b', tokens)}"


def _split(flops: float, params: float, tokens: float) -> str:
    return (
        f"  {formatting.power(flops)} FLOPs: N {formatting.count(params)}, D {formatting.count(tokens)}, "
        f"{formatting.significant(tokens / params)} tokens per parameter"
    )
