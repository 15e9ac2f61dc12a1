"""Which tasks some data offer, which of them are wanted, and what each is made of.

Decides names only; imports neither torch nor lm-eval, so that a plan can refuse a misspelt task before anything runs.
Refuses names that the data do not offer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from memscale.config.data import Facts
from memscale.errors import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class LmEvalTask:
    """One lm-eval task: a file of `memscale/evaluation/tasks/` over one evaluation set."""

    name: str
    """Its name in lm-eval, unique among all parts."""
    template: str
    """The task file, without .yaml."""
    evaluation_set: str
    """Its name in the prepared data (`Prepared.evaluation_set`)."""


@dataclass(frozen=True, kw_only=True)
class EvalTask:
    """What a person names and results carry: one or two lm-eval tasks (a choice and a free answer cannot share one)."""

    name: str
    parts: tuple[LmEvalTask, ...]
    by_default: bool = True
    """Whether it runs when no tasks are named; controls and variants do not."""


class AnySource(Protocol):
    """A source as configured (`Data.sources`) or as prepared (`Manifest.sources`)."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...


def offered(sources: Sequence[AnySource]) -> tuple[EvalTask, ...]:
    """Return every task that data of these sources offer: those of facts, then bits per byte of each text source."""
    tasks: list[EvalTask] = []
    if any(source.kind == Facts.kind for source in sources):
        tasks += [
            _eval_task("facts_recall", "facts_recall", "facts_recall_generated"),
            _eval_task("facts_nll", "facts_nll"),
            _eval_task("facts_recall_statement", "facts_recall", by_default=False),
            _eval_task("facts_recall_shuffled", "facts_recall_control", by_default=False),
        ]
    for source in sources:
        if source.kind != Facts.kind:
            name = f"bits_per_byte_{source.name}"
            part = LmEvalTask(name=name, template="bits_per_byte", evaluation_set=f"held_out_{source.name}")
            tasks.append(EvalTask(name=name, parts=(part,)))
    return tuple(tasks)


def choose(tasks: Sequence[EvalTask], names: Sequence[str] | None) -> tuple[EvalTask, ...]:
    """Return the named tasks, in the order of `tasks`; for None those that run by default.

    Raises ConfigError where a name is not among them.
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
    """Make a task of the task file of its own name, and of more files over the same evaluation set."""
    parts = tuple(LmEvalTask(name=part, template=part, evaluation_set=evaluation_set) for part in (name, *more_parts))
    return EvalTask(name=name, parts=parts, by_default=by_default)
