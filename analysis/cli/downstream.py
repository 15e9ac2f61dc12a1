"""`python -m analysis downstream`: a task's metric from compute, by a law of the loss and a link to the metric."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from analysis.card import card, finite
from analysis.cli import fit_options, table_options
from analysis.cli.output import TERMINAL, print_json, print_warnings, write_json
from analysis.downstream.from_table import METRIC, Downstream, downstream
from analysis.downstream.two_steps import LINKS
from analysis.laws.registry import law_named
from analysis.report import fit_json
from analysis.tables import read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    table_options.add_table(parser)
    fit_options.add_fit(parser)
    parser.add_argument("--law", metavar="LAW", default="chinchilla", help="of the loss (default chinchilla)")
    metric = parser.add_argument_group("the metric")
    metric.add_argument("--metric", metavar="COL", required=True, help="column of the task's metric")
    metric.add_argument("--link", choices=tuple(LINKS), default="exponential", help="from loss to metric")
    metric.add_argument("--link-table", metavar="FILE", type=Path, help="runs of the second step, if they are others")
    metric.add_argument("--link-loss", metavar="COL", help="the loss in --link-table (default: as --loss)")
    direction = metric.add_mutually_exclusive_group()
    direction.add_argument(
        "--higher-is-better", action="store_true", default=None, dest="higher_is_better",
        help="an accuracy (default: by the column's name, else by its correlation with the loss)",
    )  # fmt: skip
    direction.add_argument(
        "--lower-is-better", action="store_false", default=None, dest="higher_is_better", help="an error"
    )
    metric.add_argument("--floor", type=float, metavar="X", help="of a model that knows nothing (chance), if known")
    metric.add_argument("--ceiling", type=float, metavar="X", help="of a perfect model, if known")
    parser.add_argument("--hold-out", type=int, metavar="K", default=0, help="predict the K runs of most FLOPs")
    parser.add_argument("--figures", metavar="DIR", type=Path, help="draw both steps into this folder")
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write JSON (without FILE: print it)")


def run(chosen: argparse.Namespace) -> int:
    """Answer, print or write. Raises AnalysisError."""
    law = law_named(chosen.law)
    more = {METRIC: chosen.metric} if chosen.link_table is None else {}
    observations = table_options.observations(chosen, reads={column.name for column in law.columns}, more=more)
    found = downstream(
        observations, metric=chosen.metric, law=chosen.law, link=chosen.link,
        link_table=None if chosen.link_table is None else read(chosen.link_table),
        link_loss=chosen.link_loss or chosen.loss, link_cluster=chosen.cluster,
        higher_is_better=chosen.higher_is_better, floor=chosen.floor, ceiling=chosen.ceiling, hold_out=chosen.hold_out,
        **fit_options.choices(chosen),
    )  # fmt: skip
    content = as_json(found)
    made: list[Path] = []
    if chosen.figures is not None:
        from analysis.figures import downstream as figures  # matplotlib takes most of the start

        made += figures.write(found, chosen.figures)
    if chosen.json == TERMINAL:
        print_json(content)
        return 0
    if chosen.json is not None:
        made.append(write_json(Path(chosen.json), content))
    print(found.summary())
    print_warnings(observations.warnings)
    print("".join(f"{path}\n" for path in made), end="")
    return 0


def as_json(found: Downstream) -> dict[str, Any]:
    """The card of kind 'downstream'."""
    metric = found.steps.metric
    frame = found.to_frame() if found.predicted is not None else None
    rows = [] if frame is None else frame.to_dict("index").items()
    return card(
        "downstream", found.observations, found.warnings,
        metric={
            "name": metric.name, "higher_is_better": metric.higher_is_better, "decided_by": metric.decided_by,
            "unit": metric.unit, "floor": metric.floor, "ceiling": metric.ceiling,
        },
        law=fit_json.body(found.law),
        link=fit_json.body(found.link),
        link_source=found.link_observations.source,
        held_out=[
            {
                "row": int(row),  # type: ignore[call-overload]
                **{f"{key}_predicted": values[key] for key in ("loss", "metric")},
                **{key: values.get(f"{key}_measured") for key in ("loss", "metric")},
                **{f"{key}_ci95": _ends(values, f"{key}_ci95") for key in ("loss", "metric")},
                **{f"{key}_of_run_ci95": _ends(values, f"{key}_of_run") for key in ("loss", "metric")},
            }
            for row, values in rows
        ],
    )  # fmt: skip


def _ends(values: dict[Any, Any], name: str) -> list[float | None]:
    return [finite(values[f"{name}_{side}"]) for side in ("lower", "upper")]
