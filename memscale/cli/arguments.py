"""The arguments that several verbs take."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Add the name of a sweep."""
    parser.add_argument("sweep", metavar="SWEEP", help="a file of sweeps/, without .yaml")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add Hydra overrides."""
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="Hydra overrides, such as scale=node")


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add `--out`."""
    meaning = "where to write, for who may only read the sweep; default: its folder"
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=meaning)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON with all digits")
