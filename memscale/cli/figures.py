"""`memscale figures`: the results table, the figures and the report, rebuilt from the files of the runs."""

from __future__ import annotations

import argparse

from memscale.cli import arguments
from memscale.cli.results import collect
from memscale.config.codec import to_plain
from memscale.errors import MemscaleError
from memscale.records.layout import SweepPaths
from memscale.records.plan_file import read_plan_file


class NoReportError(MemscaleError):
    """The results do not make a report yet."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_sweep(parser)


def run(given: argparse.Namespace) -> int:
    paths, _ = arguments.launched(given.sweep)
    build_report(paths)
    return 0


def build_report(paths: SweepPaths) -> None:
    """Write the results table, then let the analysis build the figures and the report from it."""
    from analysis.errors import AnalysisError
    from analysis.report import build

    plan = read_plan_file(paths)
    assert plan is not None
    collect(paths, plan)
    try:
        built = build.build(
            paths.results_parquet,
            paths.root,
            question=plan.question,
            sweep=plan.sweep,
            plan_summary=to_plain(plan),
        )
    except AnalysisError as error:
        raise NoReportError(f"no report yet: {error}") from None
    print(built.answer)
    print(f"report    {built.report}")
    print(f"figures   {built.figures}")
    print(f"results   {paths.results_csv}")
