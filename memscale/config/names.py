"""The one rule for names that become folders or files, and its check wherever such a name enters.

Sweeps, budgets, families, sources and tasks are named by a person; names of runs are made of these. All of them come
back from files (run.json, plan.json, a manifest) that somebody else may have written. A name that keeps the rule is one
step below its folder: it has no `/` and is neither hidden nor `..` nor an option of a command.
"""

from __future__ import annotations

import re
from typing import Annotated

from memscale.config.ranges import RangeError, Text

_PATTERN = r"(?a:\w(?:[\w.+=,-]*[\w+=])?)"
_NEEDS = "letters, digits and _ . + = , - with a letter, a digit or _ in front"
_WHY = "it is the name of a folder or a file"

NAME = Text(_PATTERN, _NEEDS, _WHY, 80)
RUN_NAME = Text(_PATTERN, _NEEDS, _WHY, 200)
"""A file system takes 255 bytes; the run's id and what is written beside a file come behind."""

STEM = Text(_PATTERN, _NEEDS, _WHY, 150)
"""A run's name without what tells its seed or rates; the settings of a grid may make it long."""

FolderName = Annotated[str, NAME]
"""The type of a field that is such a name; `memscale.config.ranges.Checked` checks it."""

RESERVED = ("data", "mlartifacts")
"""Folders beside those of the sweeps."""

_RUN_ID = re.compile(r"[0-9a-f]{12}")


def check_name(what: str, name: str, rule: Text = NAME) -> str:
    """Return `name`. Raises ConfigError, which begins with `what`, where it breaks the rule."""
    problem = rule.problem(name)
    if problem is not None:
        raise RangeError(what, problem)
    return name


def check_sweep_name(name: str) -> str:
    """Return the name of a sweep. Raises ConfigError where it breaks the rule, or is that of a folder beside sweeps."""
    if name in RESERVED:
        raise RangeError("the sweep's name", f"is '{name}', as a folder beside those of sweeps is called; rename it")
    return check_name("the sweep's name", name)


def check_id(what: str, given: str) -> str:
    """Return `given`, the identity of a run or the hash of a plan. Raises ConfigError where it is none."""
    if not _RUN_ID.fullmatch(given):
        raise RangeError(what, f"is {given[:200]!r}; it needs 12 hexadecimal digits")
    return given
