"""What MLflow shall hold of one run, read from its folder and nothing else.

Decides the names of params, tags and metrics. Refuses a folder whose files are damaged, by the file's name.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, Metric

from memscale.config.codec import to_plain
from memscale.errors import RecordError
from memscale.records.layout import RunPaths
from memscale.records.metrics import read_metrics
from memscale.records.result_file import Result as ResultFile
from memscale.records.run_file import RunFile, read_run_file
from memscale.tracking.damaged import DamagedRun, damaged
from memscale.tracking.states import State, judged

_PARAM_LENGTH = 6000  # MLflow's limit for the value of a param
_DIGEST_LENGTH = 36  # MLflow's limit for the digest of a dataset
_CHECKPOINT = re.compile(r"step-(\d+)")
_NOT_IN_A_KEY = re.compile(r"[^\w.\- ]")


@dataclass(frozen=True, kw_only=True)
class Result:
    """`result.json` as it shall be mirrored."""

    digest: str
    """SHA-256 of the file."""
    metrics: tuple[Metric, ...]


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A run, read from its files."""

    paths: RunPaths
    file: RunFile
    state: State
    result: Result | None
    durable_step: float
    """Last step that no resume can take back: the newest checkpoint's, infinity once there is a result, else -1."""

    def params(self) -> dict[str, str]:
        """The configuration and the planned counts, flat: `optimizer.learning_rate`, `planned.params_total`."""
        file = self.file
        budget = f"{file.budget_flops:g}"  # for people; run.json has all digits
        place = {
            "series": file.series,
            "family": file.family,
            "scale": file.scale,
            "stage": file.stage,
            "budget": file.budget,
            "budget_flops": budget,
        }
        flat = _flat({**to_plain(file.run), "planned": to_plain(file.counts), **place})
        return {name: value[:_PARAM_LENGTH] for name, value in sorted(flat.items())}

    def tags(self) -> dict[str, str]:
        """Return MLflow's tags: identity, place in the sweep, and state."""
        file = self.file
        return {
            "memscale.run_id": file.run_id,
            "memscale.role": "run",
            "memscale.sweep": file.sweep,
            "memscale.name": file.name,
            "memscale.family": file.family,
            "memscale.scale": file.scale,
            "memscale.stage": file.stage,
            "memscale.seed": str(file.run.seed),
            "memscale.state": self.state.name,
            "memscale.cause": self.state.cause,
            "memscale.attempts": str(self.state.num_attempts),
        }

    def dataset(self) -> Dataset:
        """The mixture as MLflow's description of an input."""
        data = self.file.data
        return Dataset(
            name=data.name,
            digest=self.file.run.digests.data[:_DIGEST_LENGTH],
            source_type="memscale",
            source=json.dumps(to_plain(data)),
            profile=json.dumps({"sources": [source.name for source in data.sources]}),
        )

    def history(self, *, after: int) -> Iterator[Metric]:
        """The metrics of steps beyond `after` up to the durable one, and once a step the tokens trained on by then.

        Raises RecordError where a line is damaged.
        """
        if self.durable_step <= after:
            return
        last = after
        for metric in read_metrics(self.paths.metrics, self.file.run_id):
            if not after < metric.step <= self.durable_step:
                continue
            if metric.step > last:
                last = metric.step
                yield _metric("progress/tokens", metric.tokens, metric.time, metric.step)
            yield _metric(key(metric.split, metric.name), metric.value, metric.time, metric.step)

    def artifacts(self) -> dict[str, Path]:
        """Path within MLflow -> file, of the small files that explain the run."""
        files = (self.paths.run, self.paths.provenance, self.paths.result)
        return {file.name: file for file in files if file.exists()}


def read_folder(paths: RunPaths) -> RunFolder | DamagedRun:
    """Read a run's folder. Raises RecordError where it is damaged and its name has no run id."""
    state, seen = judged(paths)
    why, file, result = seen.damage, None, None
    if not why:
        try:
            file = read_run_file(paths.run)
            result = _read_result(paths.result, seen.result) if seen.result is not None else None
        except RecordError as error:
            why = str(error)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"a file in {paths.root} lacks what memscale writes ({error!r})"
    if file is not None and not why:
        durable = math.inf if result is not None else _last_checkpoint(paths.checkpoints)
        return RunFolder(paths=paths, file=file, state=state, result=result, durable_step=durable)
    if paths.run_id is None:
        raise RecordError(why)
    return damaged(paths, state, why)


def key(*parts: str) -> str:
    """A metric's key: its parts joined by '/', without the characters, empty parts and dots that MLflow refuses."""
    return "/".join(_part(part) for part in "/".join(parts).split("/"))


def _part(part: str) -> str:
    escaped = _NOT_IN_A_KEY.sub(lambda found: f"_x{ord(found[0]):x}_", part)
    return escaped if escaped.strip(".") else escaped.replace(".", "_x2e_") or "_"


def _read_result(path: Path, read: ResultFile) -> Result:
    """Losses, scores with their standard errors, usage and costs as metrics of the last step."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    content = read.content
    named: dict[str, float | None] = {}
    for source, losses in content["losses"].items():
        named |= {key("loss", source, name): value for name, value in losses.items()}
    for task, metrics in content["scores"].items():
        for metric, score in metrics.items():
            named[key("score", task, metric)] = score["value"]
            named[key("score", task, f"{metric}_stderr")] = score["stderr"]
    named |= {key("usage", name): value for name, value in content["usage"].items()}
    named |= {key("cost", name): value for name, value in content["timings"].items()}
    named[key("cost", "peak_memory_bytes")] = content["peak_memory_bytes"]
    step, ended = int(content["achieved"]["steps"]), float(content["ended"])
    metrics = tuple(_metric(name, value, ended, step) for name, value in named.items() if value is not None)
    return Result(digest=digest, metrics=metrics)


def _metric(name: str, value: float, seconds: float, step: int) -> Metric:
    """Infinity becomes NaN: MLflow would store 1.8e308, which no chart shows and every average believes."""
    finite = float(value) if math.isfinite(value) else math.nan
    return Metric(name, finite, round(seconds * 1000), step)


def _last_checkpoint(folder: Path) -> int:
    if not folder.is_dir():
        return -1
    found = (_CHECKPOINT.fullmatch(path.name) for path in folder.iterdir())
    return max((int(match[1]) for match in found if match), default=-1)


def _flat(plain: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested keys joined by dots; lists as JSON; what is None is left out."""
    flat: dict[str, str] = {}
    for name, value in plain.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            flat[prefix + name] = json.dumps(value) if isinstance(value, list) else str(value)
    return flat
