"""Write the report of a results table: figures, a machine-readable card and one self-contained HTML page.

Everything is computed before anything is written, each file is replaced in one step, and the page comes last; figures
of an earlier report that the table no longer carries are removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.card import text
from analysis.figures import sweep as sweep_figures
from analysis.figures.figure import ENDINGS, save
from analysis.report import study_json
from analysis.report.headline import headline
from analysis.report.page import page
from analysis.sweep.study import Study, study
from analysis.tables import atomic_write, looks, planned_resolution
from analysis.tables.looks import read_looks
from analysis.tables.planned_resolution import read_resolution
from analysis.tables.results import read_results

STEMS = (
    "gain",
    "isoflop",
    "loss_vs_flops",
    "loss_vs_seconds",
    "loss_vs_slots",
    "nll_vs_slots",
    "bits_vs_slots",
    "recall_vs_flops",
    "recall_vs_params",
    "recall_vs_slots",
    "tuning",
    "ablations",
    "ablations_recall",
    "saturation",
    "by_budget",
)
PLAN_WORDS = {
    "plan_hash": "plan",
    "launcher": "launcher",
    "scale": "scale",
    "matched": "matched",
    "forecast": "forecast",
}


@dataclass(frozen=True, kw_only=True)
class ReportPaths:
    """What `build` wrote."""

    report: Path
    card: Path
    figures: Path
    """The folder of the figures."""
    files: tuple[Path, ...]
    """Each figure as PNG, PDF and its data as CSV."""
    answer: str
    """The sentence the report opens with."""


def build(
    table_path: Path,
    out_dir: Path,
    *,
    question: str = "",
    sweep: str = "",
    plan_summary: Mapping[str, Any] | None = None,
    sweep_dir: Path | None = None,
) -> ReportPaths:
    """Read the table and write `report.html`, `analysis.json` and `figures/` into `out_dir`.

    `question` and `sweep` are shown as given (`sweep` falls back to the table's own). Of `plan_summary` the keys
    plan_hash, launcher, scale, matched, forecast (where they are text or numbers), dropped and caveats (a list of
    sentences) are shown. `sweep_dir` holds `looks.json` and `resolution.json`, where there are such files; without it
    the folder of the table. Raises AnalysisError where the table or one of these cannot be used, or the folder cannot
    be written.
    """
    beside = table_path.parent if sweep_dir is None else sweep_dir
    done = study(
        read_results(table_path),
        looks=read_looks(beside / looks.NAME),
        resolution=read_resolution(beside / planned_resolution.NAME),
    )
    return write(done, out_dir, question=question, sweep=sweep, plan_summary=plan_summary)


def write(
    done: Study, out_dir: Path, *, question: str = "", sweep: str = "", plan_summary: Mapping[str, Any] | None = None
) -> ReportPaths:
    """Write a study that is already computed; see `build`."""
    sweep = sweep or done.results.sweep
    figures = sweep_figures.draw(done)
    content = study_json.card(done, question=question, sweep=sweep)
    html = page(
        done,
        figures,
        question=question,
        sweep=sweep,
        rebuild=_commands(done, sweep),
        plan=_plan(plan_summary or {}),
        caveats=[str(one) for one in (plan_summary or {}).get("caveats", [])],
    )
    folder = out_dir / "figures"
    written = save(figures, folder)
    for name in (stem + ending for stem in STEMS for ending in ENDINGS):
        if folder / name not in written:
            (folder / name).unlink(missing_ok=True)
    card_path = atomic_write.write(out_dir / "analysis.json", text(content).encode())
    report = atomic_write.write(out_dir / "report.html", html.encode())
    return ReportPaths(
        report=report, card=card_path, figures=folder, files=tuple(written), answer=headline(done).sentence
    )


def _commands(done: Study, sweep: str) -> list[str]:
    commands = [f"python -m analysis report {done.results.path.name} --out DIR   # from the results table alone"]
    if sweep:
        commands = [
            f"make sweep SWEEP={sweep}     # train what is missing",
            f"make figures SWEEP={sweep}   # rebuild the table, the figures and this page from the runs' files",
            *commands,
        ]
    return commands


def _plan(summary: Mapping[str, Any]) -> dict[str, str]:
    """What is known of the plan, in words."""
    shown = {
        words: str(summary[key])
        for key, words in PLAN_WORDS.items()
        if isinstance(summary.get(key), str | int | float) and summary[key] != ""
    }
    dropped = summary.get("dropped")
    if isinstance(dropped, list):
        shown["dropped from the plan"] = "; ".join(_dropped(one) for one in dropped) or "nothing"
    return shown


def _dropped(one: object) -> str:
    if isinstance(one, Mapping):
        return f"{one.get('name', one.get('family', 'a run'))}: {one.get('reason', 'no reason given')}"
    return str(one)
