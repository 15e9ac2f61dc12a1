"""`python -m analysis compare`: laws ranked by held-out error, and how the headline moves with each choice."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analysis import formatting
from analysis.cli import table_options
from analysis.cli.fit import columns_for
from analysis.cli.output import TERMINAL, print_json, print_warnings, write_json
from analysis.errors import FitError
from analysis.fitting import OBJECTIVES
from analysis.fitting.cross_validation import Data, HeldOut, Options
from analysis.fitting.model_selection import Judged, rank
from analysis.fitting.sensitivity import Variant, sensitivity
from analysis.laws.law import Law
from analysis.laws.registry import LAWS, law_named
from analysis.report import fit_json
from analysis.tables import Observations
from analysis.tables.observations import FloatArray

NOT_BY_DEFAULT = frozenset({"m1", "m2", "m4", "exponential_link", "sigmoid_link"})
"""The same as another law, slow, or no law of a loss."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    table_options.add_table(parser)
    parser.add_argument(
        "--law", metavar="LAW", action="append", default=[], help="one to compare, repeatable (default: all that fit)"
    )
    parser.add_argument("--objective", choices=tuple(OBJECTIVES), default="log_huber", help="default log_huber")
    parser.add_argument("--delta", type=float, metavar="D", help="of a Huber objective")
    parser.add_argument("--scale", metavar="NAME", help="what is extrapolated along (default: C, else N, else x)")
    parser.add_argument("--headline", metavar="NAME", help="coefficient whose sensitivity is shown (default: a)")
    parser.add_argument("--other-params", metavar="COL", action="append", default=[], help="N counted another way")
    parser.add_argument("--bootstrap", type=int, metavar="B", default=0, help="refits for the variants' intervals")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write JSON (without FILE: print it)")
    parser.add_argument("--figures", metavar="DIR", type=Path, help="draw extrapolations and the forest into it")


def run(chosen: argparse.Namespace) -> int:
    laws = [law_named(name) for name in chosen.law] or [law for name, law in LAWS.items() if name not in NOT_BY_DEFAULT]
    reads = {column.name for law in laws for column in law.columns}
    points = table_options.observations(
        chosen, reads=reads, more={f"N_as_{at}": column for at, column in enumerate(chosen.other_params)}
    )
    columns = {law.name: found for law in laws if (found := _columns(law, points)) is not None}
    if not chosen.law:
        laws = [law for law in laws if law.name in columns]
        if not laws:
            raise FitError("no law reads the columns that are mapped; give --params with --tokens or --flops, or --law")
    scale_N = _scale(points, chosen.scale)
    options = Options(objective=chosen.objective, delta=chosen.delta)
    data = Data(columns={}, loss=points.loss, scale=scale_N, size=points.columns.get("N", scale_N))
    judged = rank(laws, columns, data, options)
    variants = _variants(judged, columns, points, scale_N, options, chosen)
    content = as_json(judged, variants, points)
    made: list[Path] = []
    if chosen.json not in (None, TERMINAL):
        made.append(write_json(Path(chosen.json), content))
    if chosen.figures is not None:
        from analysis.figures import model_selection  # matplotlib takes most of the start

        made += model_selection.write(judged, variants, scale_N, points.loss, chosen.figures)
    if chosen.json == TERMINAL:
        print_json(content)
    else:
        show(judged, variants, points)
        print("".join(f"{path}\n" for path in made), end="")
    return 0


def _columns(law: Law, points: Observations) -> dict[str, FloatArray] | None:
    try:
        return columns_for(law, points)
    except FitError:
        return None


def _scale(points: Observations, asked: str | None) -> FloatArray:
    columns = points.columns
    if asked is not None:
        if asked not in columns:
            raise FitError(f"--scale {asked}: no such column is mapped; there are: {', '.join(columns)}")
        return columns[asked]
    if "C" in columns:
        return columns["C"]
    if "N" in columns and "D" in columns:
        return 6.0 * columns["N"] * columns["D"]
    return next(iter(columns.values()))


def _variants(
    judged: tuple[Judged, ...],
    columns: Mapping[str, Mapping[str, FloatArray]],
    points: Observations,
    scale_N: FloatArray,
    options: Options,
    chosen: argparse.Namespace,
) -> tuple[Variant, ...]:
    """Of the best law that has the headline."""
    for one in judged:
        name = chosen.headline or "a"
        derived = {each.name for each in one.law.derived}
        if one.fit is None or name not in (derived if chosen.headline is None else derived | set(one.law.names)):
            continue
        own = columns[one.law.name]
        counted = {
            f"N as {column}": {**own, "N": points.columns[f"N_as_{at}"]}
            for at, column in enumerate(chosen.other_params)
        }
        return sensitivity(
            one.law,
            own,
            points.loss,
            scale_N,
            name,
            options,
            counted=counted,
            num_replicates=chosen.bootstrap,
            seed=chosen.seed,
        )
    if chosen.headline is not None:
        raise FitError(f"no law that was fitted has a coefficient '{chosen.headline}' (--headline)")
    return ()


def as_json(judged: tuple[Judged, ...], variants: tuple[Variant, ...], points: Observations) -> dict[str, Any]:
    return {
        "format": fit_json.FORMAT,
        "table": points.source,
        "n": len(points),
        "exclusions": [{"row": one.row, "rule": one.rule, "reason": one.reason} for one in points.exclusions],
        "laws": [
            {
                "law": one.law.name,
                "formula": one.law.formula,
                "aicc": _finite(one.aicc),
                "fit_rms": _finite(one.fit_rms),
                "extrapolation_rms": _finite(one.extrapolation_rms),
                "leave_one_size_out_rms": _finite(one.left_out_rms),
                "extrapolations": [_part(part) for part in one.extrapolations],
                "leave_one_size_out": [_part(part) for part in one.left_out],
                "coefficients": None if one.fit is None else one.fit.values,
                "reason": one.reason or None,
            }
            for one in judged
        ],
        "sensitivity": [
            {
                "kind": one.kind,
                "choice": one.label,
                "value": _finite(one.value),
                "ci95": [_finite(end) for end in one.ci95],
                "n": one.num_points,
                "reason": one.reason or None,
            }
            for one in variants
        ],
        "warnings": list(points.warnings),
    }


def _part(part: HeldOut) -> dict[str, Any]:
    return {"left_out": part.label, "n": len(part.rows), "rms": _finite(part.rms), "reason": part.reason or None}


def show(judged: tuple[Judged, ...], variants: tuple[Variant, ...], points: Observations) -> None:
    width = max(len(one.law.name) for one in judged)
    print(f"{len(points)} points of {points.source}; errors of ln of the loss, root mean square\n")
    print(f"{'law':<{width}}  {'larger runs':>11}  {'left-out sizes':>14}  {'fitted runs':>11}  {'AICc':>9}")
    best = min((one.aicc for one in judged if math.isfinite(one.aicc)), default=math.nan)
    for one in judged:
        if one.fit is None:
            print(f"{one.law.name:<{width}}  {one.reason}")
            continue
        behind = f"{one.aicc - best:+.1f}" if math.isfinite(one.aicc) else "-"
        print(
            f"{one.law.name:<{width}}  {_percent(one.extrapolation_rms):>11}  {_percent(one.left_out_rms):>14}  "
            f"{_percent(one.fit_rms):>11}  {behind:>9}"
        )
    if variants:
        print("\nhow the headline moves:")
        for each in variants:
            if each.reason:
                print(f"  {each.label:<28} {each.reason}")
                continue
            lower, upper = each.ci95
            print(f"  {each.label:<28} {each.value:.4f} [{lower:.4f}, {upper:.4f}]  {each.num_points} points")
    print_warnings(points.warnings)


def _percent(share: float) -> str:
    return f"{formatting.significant(100 * share)} %" if math.isfinite(share) else "-"


def _finite(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
