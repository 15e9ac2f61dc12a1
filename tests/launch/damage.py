"""Ways to damage a finished run's folder, for tests of what the verbs make of it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from memscale.records.layout import RunPaths

Damage = Callable[[RunPaths, RunPaths], None]
"""Damages the first run; the second one is another run, which is left as it is."""


def another_runs_result(run: RunPaths, other: RunPaths) -> None:
    shutil.copyfile(other.result, run.result)


def edited_loss(run: RunPaths, _: RunPaths) -> None:
    content = json.loads(run.result.read_text())
    loss = content["losses"]["mixture"]["nats_per_token"]
    run.result.write_text(run.result.read_text().replace(repr(loss), repr(loss - 0.4)))


def edited_rate(run: RunPaths, _: RunPaths) -> None:
    rate = json.loads(run.run.read_text())["run"]["optimizer"]["learning_rate"]
    run.run.write_text(run.run.read_text().replace(f'"learning_rate": {rate}', '"learning_rate": 0.123'))


def deleted_run_file(run: RunPaths, _: RunPaths) -> None:
    run.run.unlink()


def swapped_checkpoint(run: RunPaths, other: RunPaths) -> None:
    shutil.rmtree(run.checkpoints)
    shutil.copytree(other.checkpoints, run.checkpoints)


def reordered_metrics(run: RunPaths, _: RunPaths) -> None:
    lines = run.metrics.read_text().splitlines(keepends=True)
    lines[1], lines[2] = lines[2], lines[1]
    run.metrics.write_text("".join(lines))


def edited_metric(run: RunPaths, _: RunPaths) -> None:
    run.metrics.write_text(run.metrics.read_text().replace('"value": 5.', '"value": 4.', 1))


def cut_metrics(run: RunPaths, _: RunPaths) -> None:
    """The last lines are gone: the chain of those that are left is whole."""
    run.metrics.write_text("".join(run.metrics.read_text().splitlines(keepends=True)[:-3]))


def missing_result(run: RunPaths, _: RunPaths) -> None:
    run.result.unlink()


EDITS: tuple[Damage, ...] = (
    another_runs_result,
    edited_loss,
    edited_rate,
    deleted_run_file,
    swapped_checkpoint,
    reordered_metrics,
    edited_metric,
    cut_metrics,
    missing_result,
)

WAYS = ("truncated", "empty", "binary", "folder", "unreadable", "unknown key", "newer format", "missing")


def damage(path: Path, way: str, chance: random.Random) -> None:
    """Damage one file, or folder, in one of WAYS."""
    content = path.read_bytes() if path.is_file() else b"{}"
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if way == "folder":
        path.mkdir()
        (path / "inside").write_text("a file")
    elif way == "unreadable":
        path.symlink_to(path)  # a link to itself is refused to root too
    elif way != "missing":
        path.write_bytes(_changed(content, way, chance))


def _changed(content: bytes, way: str, chance: random.Random) -> bytes:
    if way == "truncated":
        return content[: chance.randrange(max(1, len(content)))]
    if way in ("empty", "binary"):
        return chance.randbytes(200) if way == "binary" else b""
    try:
        plain = json.loads(content)
        assert isinstance(plain, dict)
    except (ValueError, AssertionError):
        return content + b'{"zzz": 1}\n'
    plain.pop("digest", None)  # as an earlier version wrote it: nothing but the key is wrong
    return json.dumps(plain | ({"zzz": 1} if way == "unknown key" else {"format": 99})).encode()


def parts(run: RunPaths) -> list[Path]:
    """The files and folders of a finished run that can be damaged."""
    newest = max(run.checkpoints.glob("step-*"), key=lambda path: int(path.name.split("-")[1]))
    attempt = run.attempt(1)
    return [
        run.run, run.result, run.metrics, run.provenance, run.heartbeat, run.lease, run.stop, run.attempts,
        run.checkpoints, run.root, *sorted(attempt.iterdir()), *sorted(newest.iterdir()),
    ]  # fmt: skip
