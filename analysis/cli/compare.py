"""`python -m analysis compare`: laws ranked by held-out error, and how the headline moves with each choice."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from analysis.card import card, ends, finite
from analysis.cli import fit_options, table_options
from analysis.cli.output import TERMINAL, print_json, write_json
from analysis.fitting.compare import NOT_BY_DEFAULT, Comparison, compare
from analysis.fitting.cross_validation import HeldOut
from analysis.laws.registry import LAWS, law_named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    table_options.add_table(parser)
    parser.add_argument(
        "--law", metavar="LAW", action="append", default=[], help="one to compare, repeatable (default: all that fit)"
    )
    fit_options.add_fit(parser, several_laws=True)
    parser.add_argument("--scale", metavar="NAME", help="what is extrapolated along (default: C, else N, else x)")
    parser.add_argument("--headline", metavar="NAME", help="coefficient whose sensitivity is shown (default: a)")
    parser.add_argument("--other-params", metavar="COL", action="append", default=[], help="N counted another way")
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write JSON (without FILE: print it)")
    parser.add_argument("--figures", metavar="DIR", type=Path, help="draw extrapolations and the forest into it")


def run(chosen: argparse.Namespace) -> int:
    """Compare, write, print."""
    laws = [law_named(name) for name in chosen.law]
    candidates = laws or [law for name, law in LAWS.items() if name not in NOT_BY_DEFAULT]
    others = {column: f"N_as_{at}" for at, column in enumerate(chosen.other_params)}
    observations = table_options.observations(
        chosen,
        reads={column.name for law in candidates for column in law.columns},
        more={factor: column for column, factor in others.items()},
    )
    how = fit_options.choices(chosen)
    found = compare(
        observations,
        laws,
        objective=how["objective"],
        delta=how["delta"],
        scale=chosen.scale,
        headline=chosen.headline,
        other_params=others,
        bootstrap=how["bootstrap"],
        seed=how["seed"],
    )
    content = as_json(found)
    made: list[Path] = []
    if chosen.json not in (None, TERMINAL):
        made.append(write_json(Path(chosen.json), content))
    if chosen.figures is not None:
        from analysis.figures import model_selection  # matplotlib takes most of the start

        made += model_selection.write(found.scores, found.variants, found.scale, observations.loss, chosen.figures)
    if chosen.json == TERMINAL:
        print_json(content)
    else:
        print(found.summary())
        print("".join(f"{path}\n" for path in made), end="")
    return 0


def as_json(found: Comparison) -> dict[str, Any]:
    """The card of kind 'compare'."""
    laws = [
        {
            "law": one.law.name,
            "formula": one.law.formula,
            "aicc": finite(one.aicc),
            "fit_rms": finite(one.fit_rms),
            "extrapolation_rms": finite(one.extrapolation_rms),
            "leave_one_size_out_rms": finite(one.left_out_rms),
            "extrapolations": [_part(part) for part in one.extrapolations],
            "leave_one_size_out": [_part(part) for part in one.left_out],
            "coefficients": None
            if one.fit is None
            else {name: finite(value) for name, value in one.fit.values.items()},
            "reason": one.reason or None,
        }
        for one in found.scores
    ]
    variants = [
        {
            "kind": one.kind,
            "choice": one.label,
            "value": finite(one.value),
            "ci95": ends(one.ci95),
            "n": one.num_points,
            "reason": one.reason or None,
        }
        for one in found.variants
    ]
    return card("compare", found.observations, laws=laws, sensitivity=variants)


def _part(part: HeldOut) -> dict[str, Any]:
    return {"left_out": part.label, "n": len(part.rows), "rms": finite(part.rms), "reason": part.reason or None}
