"""What is given to make reaches memscale as it was typed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.sweeps import ROOT


def test_overrides_with_braces_and_patterns_are_left_to_memscale(tmp_path: Path) -> None:
    (tmp_path / "memscale").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "memscale").chmod(0o755)
    given = "launcher.resources=[{families:[moe],memory:9G}] data.files=*.md"
    command = ["make", "--no-print-directory", "plan", f"BIN={tmp_path}", "READY=", "LAUNCHER=local", f"SET={given}"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert told == ["plan", "memory_vs_moe", "launcher=local", *given.split()]
