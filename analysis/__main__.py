"""python -m analysis report|fit|gain TABLE: the answer of a results table, from a terminal.

Mistakes end with one line on stderr and exit code 2; `--json` prints numbers with all their digits on stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import card, numbers
from analysis.answer import of_families
from analysis.curves import FLOPS, SECONDS, fit_curves
from analysis.errors import AnalysisError, FitError
from analysis.study import study
from analysis.table import Results, read


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        run = {"report": _report, "fit": _fit, "gain": _gain}[chosen.command]
        return run(chosen)
    except AnalysisError as error:
        print(f"analysis: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (head, less) has seen enough; give the interpreter nothing to flush into the closed pipe.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description="The answer of a results table.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="report|fit|gain")

    def command(name: str, words: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=words, description=words)
        one.add_argument("table", type=Path, metavar="TABLE", help="results table of a sweep, .parquet or .csv")
        one.add_argument("--json", action="store_true", help="print JSON with all digits instead of words")
        return one

    report = command("report", "Write figures, analysis.json and one self-contained report.html.")
    report.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into")
    report.add_argument("--question", default="", help="the question the sweep asks, shown above the answer")
    report.add_argument("--sweep", default="", help="the sweep's name (default: the table's own)")
    fit = command("fit", "Fit each series' law: loss against compute, or against seconds.")
    fit.add_argument("--against", choices=("flops", "seconds"), default="flops", help="what is spent (default flops)")
    gain = command("gain", "What a family or series gains over the others at equal compute, with intervals.")
    gain.add_argument("--of", metavar="SERIES", help="a family or a series (default: the memory family)")
    gain.add_argument("--over", metavar="SERIES", help="the one it is compared with (default: moe and dense)")
    return parser


def _report(chosen: argparse.Namespace) -> int:
    # Drawing takes most of the start-up time; the other commands do without it.
    from analysis import report

    done = study(read(chosen.table))
    paths = report.write(done, chosen.out, question=chosen.question, sweep=chosen.sweep)
    if chosen.json:
        files = {"report": str(paths.report), "card": str(paths.card), "figures": [str(path) for path in paths.files]}
        _print({**files, "answer": paths.answer})
    else:
        print(f"{paths.answer}\n{paths.report}")
    return 0


def _fit(chosen: argparse.Namespace) -> int:
    results = read(chosen.table)
    axis = FLOPS if chosen.against == "flops" else SECONDS
    if not results.compare.has(axis.column):
        raise FitError(f"{results.path} has no value of '{axis.column}' for every run that is done")
    curves = fit_curves(results.compare, axis)
    if chosen.json:
        _print({"table": str(results.path), "exclusions": _exclusions(results), **card.curves_card(curves)})
        return 0
    print(f"{curves.law.formula}, x = {axis.words}: {curves.why}")
    for name, curve in curves.series.items():
        slope = float(curve.point.law.slope(curve.point.theta[None, :])[0])
        print(
            f"{numbers.series(name):<10} alpha {numbers.with_interval(slope, curve.slope_interval())}"
            f"   {curve.num_budgets} budgets, {len(curve.point.u)} runs"
        )
    for warning in curves.warnings:
        print(f"warning: {warning}")
    return 0


def _gain(chosen: argparse.Namespace) -> int:
    done = study(read(chosen.table), subject=chosen.of, baseline=chosen.over)
    if not done.pairs:
        raise FitError(f"nothing to compare: done runs of {', '.join(done.results.compare.labels)} only")
    if chosen.json:
        _print(
            {
                "table": str(done.results.path),
                "comparisons": [card.comparison_card(one) for one in done.comparisons],
                "multipliers": [card.multiplier_card(one) for one in done.multipliers],
                "warnings": list(done.warnings),
            }
        )
        return 0
    answer = of_families(done)
    print("\n".join([answer.sentence, *answer.details, *(f"warning: {warning}" for warning in done.warnings)]))
    return 0


def _exclusions(results: Results) -> list[dict[str, Any]]:
    return [{"row": one.row, "name": one.name, "reason": one.reason} for one in results.left_out]


def _print(content: dict[str, Any]) -> None:
    print(json.dumps(content, indent=1, allow_nan=False))


if __name__ == "__main__":
    sys.exit(main())
