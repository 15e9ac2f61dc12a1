"""Every key of a sweep with its meaning, default and range, from the dataclasses themselves, as docs/keys.md.

`python -m memscale.config.keys > docs/keys.md` writes it; a test compares.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

from memscale.config.budget import Budget, IsoFlop, Ladder, Scale, Shapes
from memscale.config.codec import to_plain
from memscale.config.data import SOURCES, Data, TokenizerConfig
from memscale.config.family import FAMILY_CLASSES
from memscale.config.grid import Block
from memscale.config.launcher import Launcher
from memscale.config.matching import Matching
from memscale.config.optimizer import Average, Schedule
from memscale.config.ranges import LINE, OneOf, Range, rules
from memscale.config.recipe import BatchRule, RateRule, Recipe, Tune
from memscale.config.resources import Resources
from memscale.config.retries import Retries
from memscale.config.sweep import Evaluate, Limits, Resolve, Sweep

SECTIONS: tuple[tuple[str, type], ...] = (
    ("", Sweep),
    ("scale", Scale),
    ("scale.budgets[]", Budget),
    ("scale.ladders[]", Ladder),
    ("scale.isoflops[]", IsoFlop),
    ("scale.ladders[].shapes, scale.isoflops[].shapes", Shapes),
    *((f"families.NAME, of family {cls.family}", cls) for cls in FAMILY_CLASSES),
    ("grid[]", Block),
    ("matching", Matching),
    ("data", Data),
    ("data.tokenizer", TokenizerConfig),
    *((f"data.sources.NAME, of kind {cls.kind}", cls) for cls in SOURCES),
    ("recipe", Recipe),
    ("recipe.schedule, recipe.table_schedule", Schedule),
    ("recipe.average", Average),
    ("recipe.tune", Tune),
    ("recipe.learning_rate", RateRule),
    ("recipe.batch", BatchRule),
    ("launcher", Launcher),
    ("launcher.retries", Retries),
    ("launcher.resources[]", Resources),
    ("evaluate", Evaluate),
    ("limits", Limits),
    ("resolve", Resolve),
)
"""Where a class of the configuration stands in a sweep's YAML."""

HEAD = """# Every key of a sweep

Made from the dataclasses of `memscale/config/` by `python -m memscale.config.keys > docs/keys.md`. A value outside its
range is refused when the sweep is composed, with the file or the override that sets it. `null` stands for a default
that is worked out.

"""


def page() -> str:
    """Return the page as Markdown."""
    parts = [HEAD.rstrip("\n")]
    for where, cls in SECTIONS:
        parts.append(f"## {where or 'The sweep itself'}\n| key | default | range | meaning |\n|---|---|---|---|")
        parts[-1] += "".join(f"\n{row}" for row in _rows(cls))
    return "\n\n".join(parts) + "\n"


def _rows(cls: Any) -> Iterator[str]:
    meanings, ranges = _meanings(cls), rules(cls)
    hints = typing.get_type_hints(cls)
    for one in dataclasses.fields(cls):
        allowed = "; ".join(_allowed(rule) for rule, _several in ranges[one.name])
        needs = allowed or _kind(hints[one.name])
        yield f"| `{one.name}` | {_default(one)} | {needs} | {meanings.get(one.name, '')} |".replace("  |", " |")


def _allowed(rule: Any) -> str:
    if isinstance(rule, Range | OneOf):
        return f"{rule} ({rule.why})" if rule.why else str(rule)
    return "text" if rule is LINE else f"{rule} ({rule.why})"


def _kind(hint: Any) -> str:
    arguments = [one for one in typing.get_args(hint) if one not in (type(None), Ellipsis)]
    if typing.get_origin(hint) in (tuple, typing.Union, types.UnionType) and arguments:
        return _kind(arguments[0])
    if hint is bool:
        return "true or false"
    return "see below" if dataclasses.is_dataclass(hint) else "values of the key"


def _default(one: dataclasses.Field[Any]) -> str:
    if one.default is not dataclasses.MISSING:
        plain = to_plain(one.default)
        words = {None: "null", True: "true", False: "false"}
        return f"`{words[plain] if plain is None or isinstance(plain, bool) else plain}`".replace("''", '""')
    return "" if one.default_factory is dataclasses.MISSING else "see below"


@functools.cache
def _meanings(cls: Any) -> dict[str, str]:
    """The texts that stand below the fields, of the class and those it is made from."""
    found: dict[str, str] = {}
    for base in reversed(inspect.getmro(cls)):
        if not dataclasses.is_dataclass(base):
            continue
        (tree,) = ast.parse(inspect.getsource(base)).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                assert isinstance(field.target, ast.Name)
                found[field.target.id] = _for_yaml(str(text.value.value))
    return found


def _for_yaml(text: str) -> str:
    """A docstring as one line of a table, with YAML's word for None."""
    return " ".join(text.split()).replace("|", "\\|").replace("None:", "null:")


if __name__ == "__main__":
    sys.stdout.write(page())
