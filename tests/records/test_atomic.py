"""Files are whole or absent, and say their format."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memscale.errors import RecordError
from memscale.records.atomic import read_json, replacing, write_bytes, write_json


def test_json_comes_back_with_its_format(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b.json", {"x": 1.5}, format=3)
    assert read_json(tmp_path / "a" / "b.json", format=3) == {"format": 3, "x": 1.5}


def test_an_error_while_writing_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fail() -> None:
        with replacing(path) as aside:
            aside.write_bytes(b"half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"loss": float("nan")}, format=1)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    "content, said",
    [("{", "is not JSON"), ("[]", "no 'format'"), ('{"x": 1}', "no 'format'"), ('{"format": 9}', "Update memscale")],
)
def test_what_cannot_be_trusted_is_refused_by_name(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(RecordError, match=said) as caught:
        read_json(path, format=1)
    assert str(path) in str(caught.value)
    with pytest.raises(RecordError, match="does not exist"):
        read_json(tmp_path / "none.json", format=1)


def test_a_reader_never_sees_half_a_file_though_the_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    code = (
        "import sys, pathlib\nfrom memscale.records.atomic import write_json\n"
        "for i in range(10**9): write_json(pathlib.Path(sys.argv[1]), {'i': i, 'pad': 'x' * 20000}, format=1)"
    )
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
        until = time.monotonic() + 10
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.01)
        for _ in range(200):
            assert len(json.loads(path.read_text())["pad"]) == 20_000
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert len(read_json(path, format=1)["pad"]) == 20_000
