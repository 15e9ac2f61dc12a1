"""Where lm-eval and `datasets` may reach: nothing on the network, and no cache under the home folder.

Both libraries read these variables once, when they are first imported, so this is called before they are. It
overrides nothing that a person has set. Evaluation sets lie in the prepared data; nothing is ever to be fetched.
"""

from __future__ import annotations

import os
from pathlib import Path

_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
# Progress bars of steps that take milliseconds would fill a worker's log.
_QUIET = ("HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY")


def go_offline(cache: Path) -> None:
    """Set what lm-eval and `datasets` read at import; `cache` is the folder where they may keep files.

    Has no effect on a library that is already imported, which is why loading a data set names its cache as well.
    """
    settings = dict.fromkeys(_OFFLINE + _QUIET, "1")
    settings |= {
        "HF_HOME": str(cache),
        "HF_DATASETS_CACHE": str(cache / "datasets"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
