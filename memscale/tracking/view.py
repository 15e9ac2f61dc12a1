"""The table that the MLflow UI opens on: runs side by side by their losses and scores, best first.

By itself the UI shows the parent alone, its runs folded away and no metric. A view is shared between people as JSON in
an experiment's tag, and opened by the tag's name in the address; ours is written the same way. Only runs sorted by
something else than their date are listed flat, so ours are sorted by loss.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from mlflow import MlflowClient
from mlflow.entities import Experiment

_NAME = "memscale"
_TAG = f"mlflow.sharedViewState.{_NAME}"
_ORDER = "loss/mixture/nats_per_token"
_MOST_METRICS = 20  # columns that fit a screen, and a tag's 5,000 characters in older MLflow


def mirror_view(client: MlflowClient, experiment: Experiment, metric_keys: Iterable[str]) -> None:
    """Write the view with the losses and scores among `metric_keys` as columns, unless it is so already."""
    shown = sorted(key for key in set(metric_keys) if _is_shown(key))[:_MOST_METRICS]
    columns = ["attributes.`Duration`", "tags.`memscale.state`", "params.`series`", "params.`budget_flops`"]
    columns += ["params.`planned.params_total`", *(f"metrics.`{key}`" for key in shown)]
    view = json.dumps({
        "searchFilter": "",
        "orderByKey": f"metrics.`{_ORDER}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
    })  # fmt: skip
    if experiment.tags.get(_TAG) != view:
        client.set_experiment_tag(experiment.experiment_id, _TAG, view)


def address(base: str, experiment_id: str, asked: str = "") -> str:
    """Where the view of an experiment is, on the server at `base`; `asked` is a query such as `?token=...`."""
    return f"{base}/{asked}#/experiments/{experiment_id}/runs?viewStateShareKey={_NAME}"


def _is_shown(key: str) -> bool:
    is_score = key.startswith("score/") and not key.endswith("_stderr")
    is_loss = key.startswith("loss/") and key.endswith(("/bits_per_byte", "/nats_per_token"))
    return is_score or is_loss or key == "cost/train_seconds"
