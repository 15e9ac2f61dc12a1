"""A traceback is shown for a bug alone, and then with how to report it."""

from __future__ import annotations

import io
import sys

import pytest

from analysis.cli import main as analysis
from analysis.errors import TableError
from memscale.cli import main as memscale
from memscale.errors import ConfigError, MemscaleError


@pytest.mark.parametrize(
    "error, status, said",
    [
        (RuntimeError("no person's slip"), 1, "This is a bug of"),
        (RecursionError("deep"), 1, "This is a bug of"),
        (MemoryError(), 2, "the memory of this machine is used up"),
        (PermissionError(13, "Permission denied", "/a/b"), 2, "the system refused: Permission denied (/a/b)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_a_verb_does_not_expect(
    error: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr("memscale.cli.plan.run", fail)
    monkeypatch.setattr("analysis.cli.fit.run", fail)
    for main, words in ((memscale.main, ["plan", "my sweep"]), (analysis.main, ["fit", "my table"])):
        assert main(words) == status
        told = capsys.readouterr().err
        assert said in told
        assert ("Traceback" in told) == (status == 1)
        assert status != 1 or f"{words[0]} '{words[1]}'" in told


def test_a_message_cannot_command_a_terminal_nor_break_a_log() -> None:
    for kind in (MemscaleError, ConfigError, TableError):
        assert str(kind("no column '\x1b[2J\x00\ud800', é 日\nsecond line")) == (
            "no column '\\x1b[2J\\x00\\ud800', é 日\nsecond line"
        )


def test_a_terminal_in_another_encoding_shows_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="latin-1"))
    assert memscale.main(["plan", "日本"]) == 2
    sys.stderr.flush()
    assert b"there is no sweep '\\u65e5\\u672c'" in raw.getvalue()
