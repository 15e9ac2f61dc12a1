"""Runs of one sweep that were trained by different code are named, with the code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memscale.launch.code_differences import code_differences
from memscale.launch.training_code import TRAINING_CODE
from memscale.records.atomic import write_json
from memscale.records.attempts import Outcome, codes_of, new_attempt, write_outcome
from memscale.records.layout import RunPaths

Attempts = list[tuple[str, str | None, int]]
"""Of each attempt its code, how it ended (None: without a word), and the step of the last checkpoint by then."""


def attempted(root: Path, attempts: Attempts) -> RunPaths:
    paths = RunPaths(root)
    for code, cause, step in attempts:
        number = new_attempt(paths, threads=1, device="cpu", code=code)
        if cause is not None:
            told = Outcome(cause=cause, evidence="", started=1.0, ended=2.0, host="h", step=step)
            write_outcome(paths, number, told)
    return paths


@pytest.mark.parametrize(
    ("attempts", "codes"),
    [
        ([("a", "done", 9)], ("a",)),
        ([("a", "stopped", 3), ("a", "done", 9)], ("a",)),
        ([("a", "stopped", 3), ("b", "done", 9)], ("a", "b")),
        ([("a", "error", 0), ("b", "done", 9)], ("b",)),  # the first one trained nothing that was kept
        ([("a", "stopped", 3), ("b", "error", 3), ("c", "done", 9)], ("a", "c")),
        ([("a", None, 0), ("b", None, 0)], ("a", "b")),  # what it left is not known
        ([("a", "stopped", 3), ("b", "done", 3)], ("a", "b")),  # evaluated by b
        ([], ()),
    ],
)
def test_the_code_of_a_run_is_that_of_the_attempts_that_trained_it(
    attempts: Attempts, codes: tuple[str, ...], tmp_path: Path
) -> None:
    assert codes_of(attempted(tmp_path / "r", attempts)) == codes


def test_an_attempt_of_an_earlier_version_has_no_recorded_code(tmp_path: Path) -> None:
    paths = attempted(tmp_path / "r", [("a", "done", 9)])
    file = paths.attempt(1) / "submission.json"
    content = json.loads(file.read_text())
    del content["code"]
    write_json(file, content, format=1)
    assert codes_of(paths) == ("",)


def test_runs_of_one_code_are_not_mentioned(tmp_path: Path) -> None:
    assert code_differences("s", []) == ""
    assert code_differences("s", [(f"r{i}", RunPaths(tmp_path / f"r{i}"), ("a",)) for i in range(3)]) == ""


def test_two_runs_of_two_codes_are(tmp_path: Path) -> None:
    said = code_differences("s", [(f"r{i}", RunPaths(tmp_path / f"r{i}"), (code,)) for i, code in enumerate("ab")])
    assert "1 by a; r1 by b. " in said


def test_the_fewer_runs_are_named_with_their_code_and_its_commit(tmp_path: Path) -> None:
    codes = [*[("aaa",)] * 9, *[("bbb",)] * 7, ("aaa", "bbb"), ("",)]
    runs = [(f"r{i}", RunPaths(tmp_path / f"r{i}"), one) for i, one in enumerate(codes)]
    for i, commit in ((0, "0123456789abcdef"), (9, None)):
        runs[i][1].root.mkdir()
        write_json(runs[i][1].provenance, {"git": {"commit": commit, "dirty": True}}, format=1)
    said = code_differences("s", runs)
    assert "9 by aaa (commit 0123456789, edited); r9, r10, r11, r12, r13 and 2 more by bbb; " in said
    assert "r16 by aaa, then bbb; r17 by code that was not recorded. " in said
    assert "make sweep SWEEP=s" in said


def test_the_digest_is_of_the_code_that_trains() -> None:
    assert len(TRAINING_CODE) == 12
    int(TRAINING_CODE, 16)
