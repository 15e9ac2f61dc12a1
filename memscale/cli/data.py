"""`memscale data`: prepare a sweep's data, and show what it holds."""

from __future__ import annotations

import argparse
import json

from memscale.cli import arguments
from memscale.launch.planned import plan_sweep
from memscale.records.layout import runs_root


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_sweep(parser)
    arguments.add_overrides(parser)
    arguments.add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    planned = plan_sweep(given.sweep, given.overrides)
    from memscale.data.prepared import prepare

    prepared = prepare(planned.plan.sweep.data, runs_root(), progress=None)
    if given.json:
        print(json.dumps(prepared.manifest_json(), indent=1))
        return 0
    print(f"{prepared.folder}")
    for source in prepared.manifest.sources:
        print(
            f"  {source.name}: {source.train.num_tokens:,} tokens of {source.train.num_documents:,} documents "
            f"to train on, {source.validation.num_tokens:,} of {source.validation.num_documents:,} held out"
        )
        for skipped in source.skipped:
            print(f"    left out: {skipped}")
    if prepared.knowledge_bits is not None:
        print(f"  knowledge in the facts: {prepared.knowledge_bits:,.0f} bits")
    return 0
