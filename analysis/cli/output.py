"""What the verbs share in saying their answer: JSON on the terminal or in a file, warnings as sentences."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from analysis.tables import atomic_write

TERMINAL = "-"


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option --json of a verb that only prints."""
    parser.add_argument("--json", action="store_true", help="print JSON with all digits instead of words")


def print_json(content: dict[str, Any]) -> None:
    """Print a card on the terminal."""
    print(text(content), end="")


def write_json(path: Path, content: dict[str, Any]) -> Path:
    """Raises AnalysisError where it cannot be written."""
    return atomic_write.write(path, text(content).encode())


def text(content: dict[str, Any]) -> str:
    """Not-a-number and infinity are refused, for they are no JSON."""
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def print_warnings(warnings: Iterable[str]) -> None:
    """Print each warning as a line of its own."""
    for warning in warnings:
        print(f"warning: {warning}")
