"""Loads lm-eval tasks: completes each task file with the path of its data in a scratch folder, and loads it from there.

lm-eval silently skips a task file that it cannot read, so the loaded tasks are checked by name. Refuses a missing or
empty evaluation set. Writes only to the scratch folder, including caches of `datasets`, so that concurrent evaluations
share nothing.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval.api.task
from lm_eval.tasks import TaskManager

from memscale.data.prepared import Prepared
from memscale.errors import DataError
from memscale.evaluation.adapter import TextTokenizer
from memscale.evaluation.catalogue import LmEvalTask

TASKS = Path(__file__).with_name("tasks")
_STOPS = (".", "\n")

# lm-eval has no option to turn off the progress bar of building requests.
lm_eval.api.task.tqdm = functools.partial(lm_eval.api.task.tqdm, disable=True)


def load(prepared: Prepared, parts: Sequence[LmEvalTask], scratch: Path, *, templates: Path = TASKS) -> Any:
    """Return lm-eval's dictionary of loaded tasks. Raises DataError for an unreadable task file or evaluation set."""
    for part in parts:
        _complete(prepared, part, scratch, templates)
    manager = TaskManager(include_path=str(scratch), include_defaults=False)
    missing = [part.name for part in parts if part.name not in manager.all_subtasks]
    if missing:
        files = ", ".join(sorted(path.stem for path in templates.glob("*.yaml")))
        raise DataError(
            f"lm-eval cannot read the task file of {', '.join(missing)} in {templates}; readable by name: "
            f"{', '.join(manager.all_subtasks) or 'none'} (files: {files}). Repair or restore the file"
        )
    return manager.load([part.name for part in parts])


def _complete(prepared: Prepared, part: LmEvalTask, scratch: Path, templates: Path) -> None:
    """Write a task file that includes the template and names its data."""
    data = prepared.evaluation_set(part.evaluation_set)
    if not data.is_file() or data.stat().st_size == 0:
        raise DataError(
            f"the evaluation set of task '{part.name}', {data}, is missing or empty; "
            f"delete {prepared.folder} to have the data prepared again"
        )
    copy = scratch / f"{part.name}.jsonl"  # `datasets` takes brackets and other signs of a path for patterns
    shutil.copyfile(data, copy)
    content: dict[str, Any] = {
        "include": str(templates / f"{part.template}.yaml"),
        "task": part.name,
        "dataset_kwargs": {"data_files": {"test": str(copy)}, "cache_dir": str(scratch / "cache")},
    }
    if part.name.endswith("_generated"):
        content["generation_kwargs"] = {
            "until": list(_STOPS),
            "do_sample": False,
            "max_gen_toks": _longest_answer(data, prepared.tokenizer()),
        }
    # JSON is YAML, and quotes every path.
    (scratch / f"{part.name}.yaml").write_text(json.dumps(content), encoding="utf-8")


def _longest_answer(data: Path, tokenizer: TextTokenizer) -> int:
    """Return the tokens of the longest answer with its full stop; a longer generation is wrong in any case."""
    with open(data, encoding="utf-8") as lines:
        answers = {f" {json.loads(line)['answer']}." for line in lines}
    return max(len(tokenizer.encode(answer)) for answer in answers)
