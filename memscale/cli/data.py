"""`memscale data`: prepare a sweep's data, and show what they hold.

Where the budgets have data of their own, each of these is shown with the budgets that read it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memscale.cli import arguments
from memscale.launch.planned import plan_sweep
from memscale.records.layout import runs_root

if TYPE_CHECKING:
    from memscale.data.prepared import Prepared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_sweep(parser)
    arguments.add_overrides(parser)
    arguments.add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    planned = plan_sweep(given.sweep, given.overrides)
    from memscale.launch.budget_data import prepare_plan

    by_budget = prepare_plan(planned.plan, runs_root())
    budgets: dict[Path, list[str]] = {}
    for name, prepared in by_budget.items():
        budgets.setdefault(prepared.folder, []).append(name)
    if given.json:
        manifests = [(by_budget[names[0]].manifest_json(), names) for names in budgets.values()]
        several = [{"budgets": names, **manifest} for manifest, names in manifests]
        print(json.dumps(several if len(several) > 1 else manifests[0][0], indent=1))
        return 0
    for names in budgets.values():
        _show(by_budget[names[0]], names if len(budgets) > 1 else [])
    return 0


def _show(prepared: Prepared, budgets: Sequence[str]) -> None:
    """Print what a folder of prepared data holds, and for which budgets, where not for all."""
    print(f"{prepared.folder}" + (f" for {', '.join(budgets)}" if budgets else ""))
    for source in prepared.manifest.sources:
        print(
            f"  {source.name}: {source.train.num_tokens:,} tokens of {source.train.num_documents:,} documents "
            f"to train on, {source.validation.num_tokens:,} of {source.validation.num_documents:,} held out"
        )
        for skipped in source.skipped:
            print(f"    left out: {skipped}")
    if prepared.knowledge_bits is not None:
        print(f"  knowledge in the facts: {prepared.knowledge_bits:,.0f} bits")
