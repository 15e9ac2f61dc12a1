"""What follows training: the results table, the report, and MLflow brought up to date; the same on any launcher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memscale.config.codec import to_plain
from memscale.errors import MemscaleError, RecordError
from memscale.launch.code_differences import code_differences
from memscale.launch.concluded import mark_concluded, state_of_results
from memscale.launch.data_check import data_changed
from memscale.launch.finished_runs import damaged_runs
from memscale.launch.planned import stored_plan
from memscale.launch.progress import Output
from memscale.launch.readings import count_reading
from memscale.launch.stages import is_done
from memscale.launch.states import UNVERIFIED, state_of
from memscale.launch.syncer import Syncer
from memscale.planning.plan import Plan
from memscale.records.access import REFUSED
from memscale.records.attempts import codes_of
from memscale.records.inspection import inspect
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.plan_file import PlanFile, PlanRow, mark_finished
from memscale.records.results import Row, planned_row, read_row, with_recurrences, write_table

if TYPE_CHECKING:
    import pandas as pd


class NoReportError(MemscaleError):
    """The results do not make a report yet."""


class ReaderError(MemscaleError):
    """Somebody who may only read a sweep's folder would write there."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report that was built."""

    answer: str
    """The answer to the sweep's question, in a sentence."""
    html: Path
    figures: Path
    results: Path
    """The results table as CSV."""


def collect_results(paths: SweepPaths, plan: PlanFile, out: Path | None = None) -> list[Row]:
    """Read a row for every run of the plan whose stage is open, and write the results table.

    Of a run whose files are damaged, or whose folder is missing, the row has what the plan says and its state.

    Args:
        paths: The sweep's folder.
        plan: Its plan.
        out: The folder of the table; None: the sweep's.

    Raises:
        ReaderError: The person may only read the folder.

    """
    rows = read_rows(paths, plan)
    try:
        write_table(SweepPaths(out.absolute()) if out is not None else paths, rows)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        raise ReaderError(
            f"you may only read {out or paths.root}; give a folder of yours with --out FOLDER (results and figures)"
        ) from None
    return rows


def read_rows(paths: SweepPaths, plan: PlanFile) -> list[Row]:
    """Read a row for every run of the plan whose stage is open; write nothing."""
    return with_recurrences(
        [_row(plan, planned, folder) for planned in plan.runs if (folder := plan.run_paths(paths, planned))]
    )


def _row(plan: PlanFile, planned: PlanRow, folder: RunPaths) -> Row:
    seen = inspect(folder)
    status = state_of(folder, seen).state
    if seen.damage or not folder.root.is_dir():
        return planned_row(plan, planned, status)
    try:
        return read_row(folder, status, seen.result)
    except RecordError:
        return planned_row(plan, planned, "damaged")


def results_frame(paths: SweepPaths, plan: PlanFile) -> pd.DataFrame:
    """Write the results table where that is allowed, and return it."""
    import pandas as pd

    try:
        return pd.DataFrame(collect_results(paths, plan))
    except ReaderError:
        return pd.DataFrame(read_rows(paths, plan))


def build_report(paths: SweepPaths, out: Path | None = None) -> Report:
    """Write the results table, and let the analysis build the figures and the report from it.

    Args:
        paths: The sweep's folder.
        out: Where all of it goes; None: there.

    Raises:
        ReaderError: The person may only read the folder.
        NoReportError: The analysis refuses the results, mostly because too few runs are done.
        RecordError: The sweep's plan is damaged.

    """
    from analysis.errors import AnalysisError
    from analysis.report import build

    plan = stored_plan(paths)
    assert plan is not None
    rows = collect_results(paths, plan, out)
    if all(row["status"] != "done" for row in rows):
        raise NoReportError(f"no report yet: no run has a result; see: make status SWEEP={plan.sweep}")
    summary = to_plain(plan)
    summary["caveats"] += _doubts(paths, plan, rows)
    if out is None:
        summary["caveats"] += count_reading(paths, plan, rows)
    target = SweepPaths(out.absolute()) if out is not None else paths
    try:
        built = build.build(
            target.results_parquet,
            target.root,
            question=plan.question,
            sweep=plan.sweep,
            plan_summary=summary,
            sweep_dir=paths.root,
        )
    except AnalysisError as error:
        raise NoReportError(f"no report yet: {error}") from None
    return Report(answer=built.answer, html=built.report, figures=built.figures, results=target.results_csv)


def _doubts(paths: SweepPaths, plan: PlanFile, rows: list[Row]) -> list[str]:
    """Return what a reader must know of the files that the results come from."""
    damaged = [str(row["name"]) for row in rows if row["status"] == "damaged"]
    unverified = sum(row.get("verified") == 0 for row in rows)
    doubts = []
    if damaged:
        doubts.append(f"No number is used of runs whose files are damaged: {', '.join(damaged)}.")
    if unverified:
        doubts.append(f"{unverified} runs are {UNVERIFIED}; their numbers are used.")
    if changed := data_changed(paths, plan):
        doubts.append(f"The prepared data were changed after these runs were trained: {changed}.")
    done = {str(row["name"]) for row in rows if row["status"] == "done"}
    trained = [(row.name, plan.run_paths(paths, row)) for row in plan.runs if row.name in done]
    codes = [(name, folder, codes_of(folder)) for name, folder in trained if folder is not None]
    if differs := code_differences(plan.sweep, codes):
        doubts.append(f"{differs}.")
    return doubts


def report_lines(report: Report) -> list[str]:
    """Return the lines that a person reads of a report: its answer, and its files."""
    where = (("report", report.html), ("figures", report.figures), ("results", report.results))
    return [report.answer, *(f"{name:9} {path}" for name, path in where)]


def finish(plan: Plan, paths: SweepPaths, syncer: Syncer, output: Output) -> bool:
    """Build the report from what there is, and mirror it into MLflow.

    Args:
        plan: The plan, as far as it is open.
        paths: The sweep's folder.
        syncer: The process that mirrors into MLflow.
        output: Where a person reads what was built.

    Returns:
        Whether every run has a result. Where MLflow is up to date too, the sweep is marked as finished.

    """
    name, state = plan.sweep.name, state_of_results(paths, plan)
    try:
        for line in report_lines(build_report(paths)):
            output.line(line)
    except NoReportError as error:
        output.line(str(error))
    mirrored = syncer.finish() == 0
    if mirrored:
        mark_concluded(paths, plan, state)
    else:
        log = paths.root / "sync.log"
        output.line(f"MLflow was not brought up to date; see {log}; try again with: make ui SWEEP={name}")
    damaged = damaged_runs(paths, plan)
    if damaged:
        output.line(f"{len(damaged)} of {len(plan.runs)} runs are damaged; see: make status SWEEP={name}")
    missing = [run for run in plan.runs if not is_done(paths, run)]
    if missing:
        output.line(f"{len(missing)} of {len(plan.runs)} runs have no result; see: make status SWEEP={name}")
        return False
    if damaged:
        return False
    if mirrored:
        mark_finished(paths, plan.plan_hash)
    output.line(f"all {len(plan.runs)} runs done")
    return True
