"""What follows training: the report, and MLflow brought up to date; the same from a terminal and from a job."""

from __future__ import annotations

from memscale.cli.figures import NoReportError, build_report
from memscale.cli.syncer import Syncer
from memscale.launch.sweep import is_done
from memscale.planning.plan import Plan
from memscale.records.layout import SweepPaths
from memscale.records.plan_file import mark_finished

EXIT_DONE, EXIT_NEEDED = 0, 4


def finish(plan: Plan, paths: SweepPaths, syncer: Syncer) -> int:
    """Build the report from what there is and mirror it; return 0 where all is done, 4 where somebody is needed."""
    name = plan.sweep.name
    try:
        build_report(paths)
    except NoReportError as error:
        print(error)
    mirrored = syncer.finish() == 0
    if not mirrored:
        print(f"MLflow was not brought up to date; see {paths.root / 'sync.log'}; try again with: make ui SWEEP={name}")
    missing = [run for run in plan.runs if not is_done(paths, run)]
    if missing:
        print(f"{len(missing)} of {len(plan.runs)} runs have no result; see: make status SWEEP={name}")
        return EXIT_NEEDED
    if mirrored:
        mark_finished(paths, plan.plan_hash)
    print(f"all {len(plan.runs)} runs done")
    return EXIT_DONE
