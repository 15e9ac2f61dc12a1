"""Keeps lm-eval and `datasets` off the network and their caches out of the home folder.

Both read environment variables once, at import, so this must be called before. Variables that are already set are kept.
Evaluation sets are in the prepared data, so nothing needs to be downloaded.
"""

from __future__ import annotations

import os
from pathlib import Path

_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
# Progress bars of steps of milliseconds would fill a worker's log.
_QUIET = ("HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY")


def go_offline(cache: Path) -> None:
    """Set the variables that lm-eval and `datasets` read at import; `cache` is the folder for their files.

    It has no effect on a library that is already imported, so the loading of a data set names its cache as well.
    """
    settings = dict.fromkeys(_OFFLINE + _QUIET, "1")
    settings |= {
        "HF_HOME": str(cache),
        "HF_DATASETS_CACHE": str(cache / "datasets"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
