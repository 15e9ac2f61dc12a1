"""Metric points into MLflow, each once, whatever is killed when.

MLflow keeps what it was sent for good: rows cannot be deleted, and a step sent twice with another timestamp is shown
twice. Hence:

- Only durable steps are sent (`RunFolder.durable_step`), with the timestamps of the file.
- How far we are is a tag of the MLflow run itself, so a lost database loses the cursor with the points.
- The tag `memscale.sending` is set before points are sent and cleared, together with the cursor's move, after them.
  A sync that finds it set was preceded by one that died between: it asks MLflow for the points it holds and leaves
  these out. So does a run whose newest checkpoint was found corrupt and that trains some mirrored steps again: the
  first values stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag

from memscale.tracking.folder import RunFolder

SENDING = "memscale.sending"
STEP = "memscale.mirrored_step"
RESULT = "memscale.mirrored_result"
NON_FINITE = "memscale.non_finite"

_METRICS_PER_BATCH = 900
"""MLflow takes 1,000 metrics, params and tags in one batch, and 100 tags."""


def mirror_metrics(client: MlflowClient, mirrored: Run, folder: RunFolder) -> int:
    """Send what MLflow does not hold yet of the run's history and result; return the number of points sent."""
    tags = mirrored.data.tags
    mirrored_step = int(tags.get(STEP, -1))
    result = folder.result
    result_is_new = result is not None and tags.get(RESULT) != result.digest
    history = list(folder.history(after=mirrored_step)) if result_is_new or folder.result is None else []
    final = list(result.metrics) if result is not None and result_is_new else []
    if not history and not final:
        return 0
    marks = {SENDING: "no", STEP: str(max((point.step for point in history), default=mirrored_step))}
    if result is not None:
        marks[RESULT] = result.digest
    strange = next((point for point in history + final if math.isnan(point.value)), None)
    if strange is not None and NON_FINITE not in tags:
        marks[NON_FINITE] = f"{strange.key} at step {strange.step}"
    if tags.get(SENDING) == "yes":
        history, final = _without_held(client, mirrored.info.run_id, history, final)
    else:
        client.set_tag(mirrored.info.run_id, SENDING, "yes")
    _send(client, mirrored.info.run_id, history + final, [RunTag(name, value) for name, value in marks.items()])
    return len(history) + len(final)


def _send(client: MlflowClient, run_id: str, points: Sequence[Metric], marks: Sequence[RunTag]) -> None:
    """Send the points in batches; the last one carries the marks, which MLflow stores after its points."""
    starts = range(0, max(len(points), 1), _METRICS_PER_BATCH)
    for start in starts:
        batch = points[start : start + _METRICS_PER_BATCH]
        last = start == starts[-1]
        client.log_batch(run_id, metrics=batch, tags=marks if last else (), synchronous=True)


def _without_held(
    client: MlflowClient, run_id: str, history: Iterable[Metric], final: Iterable[Metric]
) -> tuple[list[Metric], list[Metric]]:
    """Leave out of `history` the steps MLflow holds, and of `final` (which may be revised) the very points it holds."""
    history, final = list(history), list(final)
    held = {
        (point.key, point.step, point.timestamp)
        for name in sorted({point.key for point in history + final})
        for point in client.get_metric_history(run_id, name)
    }
    steps = {(name, step) for name, step, _ in held}
    return (
        [point for point in history if (point.key, point.step) not in steps],
        [point for point in final if (point.key, point.step, point.timestamp) not in held],
    )
