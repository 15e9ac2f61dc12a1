"""Environment first: lm-eval and `datasets` read it when they are imported."""

from __future__ import annotations

import tempfile
from pathlib import Path

from memscale.evaluation.environment import go_offline

go_offline(Path(tempfile.gettempdir()) / "memscale-tests-huggingface")
