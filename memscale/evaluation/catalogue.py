"""The evaluation tasks that a data mixture offers, and the selection among them by name.

Imports neither torch nor lm-eval, so that a plan can refuse a misspelt task before anything runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from memscale.config.data import DenseFacts, Facts
from memscale.errors import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class LmEvalTask:
    """One lm-eval task: a task file of `memscale/evaluation/tasks/` applied to one evaluation set."""

    name: str
    """Name in lm-eval, unique."""
    template: str
    """The task file, without .yaml."""
    evaluation_set: str
    """Name in the prepared data (`Prepared.evaluation_set`)."""


@dataclass(frozen=True, kw_only=True)
class EvalTask:
    """A task by the name that users and results have: one lm-eval task, or two (multiple choice and generation)."""

    name: str
    parts: tuple[LmEvalTask, ...]
    by_default: bool = True
    """Whether it runs where no tasks are named; controls and variants do not."""


class AnySource(Protocol):
    """A source as configured (`Data.sources`) or as prepared (`Manifest.sources`)."""

    @property
    def name(self) -> str:
        """Name of the source."""
        ...

    @property
    def kind(self) -> str:
        """Kind of the source, such as `facts`."""
        ...


def offered(sources: Sequence[AnySource]) -> tuple[EvalTask, ...]:
    """Return the tasks that data of these sources offer: those of facts, then bits per byte of each text source.

    Example:
        >>> from memscale.config.data import PythonStdlib
        >>> sources = [Facts(name="facts"), PythonStdlib(name="code")]
        >>> [task.name for task in offered(sources) if task.by_default]
        ['facts_recall', 'facts_nll', 'bits_per_byte_code']
    """
    tasks: list[EvalTask] = []
    if any(source.kind == Facts.kind for source in sources):
        tasks += [
            _eval_task("facts_recall", "facts_recall", "facts_recall_generated"),
            _eval_task("facts_nll", "facts_nll"),
            _eval_task("facts_recall_statement", "facts_recall", by_default=False),
            _eval_task("facts_recall_shuffled", "facts_recall_control", by_default=False),
        ]
    if any(source.kind == DenseFacts.kind for source in sources):
        tasks.append(_eval_task("dense_facts", "dense_facts"))
    for source in sources:
        if source.kind not in (Facts.kind, DenseFacts.kind):
            name = f"bits_per_byte_{source.name}"
            part = LmEvalTask(name=name, template="bits_per_byte", evaluation_set=f"held_out_{source.name}")
            tasks.append(EvalTask(name=name, parts=(part,)))
    return tuple(tasks)


def choose(tasks: Sequence[EvalTask], names: Sequence[str] | None) -> tuple[EvalTask, ...]:
    """Return the named tasks, in the order of `tasks`; for None those that run by default.

    Raises ConfigError for a name that is not among them.
    """
    if names is None:
        return tuple(task for task in tasks if task.by_default)
    valid = [task.name for task in tasks]
    for name in names:
        if name not in valid:
            raise ConfigError(
                f"evaluate.tasks names '{name}', which the data do not offer; "
                f"valid: {', '.join(valid) or 'none'}.{nearest(name, valid)}"
            )
    return tuple(task for task in tasks if task.name in names)


def _eval_task(name: str, evaluation_set: str, *more_parts: str, by_default: bool = True) -> EvalTask:
    """Return a task of the task files `name` and `more_parts`, all over one evaluation set."""
    parts = tuple(LmEvalTask(name=part, template=part, evaluation_set=evaluation_set) for part in (name, *more_parts))
    return EvalTask(name=name, parts=parts, by_default=by_default)
