"""Every number and text of a sweep has a range, which is documented and refuses what lies outside with its place."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import pytest

from memscale.config import keys
from memscale.config.architecture import Architecture
from memscale.config.codec import from_plain
from memscale.config.launcher import Launcher
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.load import load_sweep
from memscale.config.optimizer import Optimizer
from memscale.config.ranges import Checked, Range, rules
from memscale.config.recipe import Multiplier
from memscale.config.run import Run
from memscale.errors import ConfigError

CLASSES = [cls for _, cls in keys.SECTIONS] + [Run, Architecture, Optimizer, MoE, Memory, Peer, Multiplier]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_number_and_text_has_a_range_with_a_reason(cls: type) -> None:
    assert issubclass(cls, Checked)
    for name, held in rules(cls).items():
        hint = str(typing.get_type_hints(cls)[name])
        if any(word in hint for word in ("int", "float", "str")):
            assert held, f"{cls.__name__}.{name} has no range; see memscale/config/ranges.py"
        assert all(rule.why for rule, _ in held if isinstance(rule, Range))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_default_lies_in_its_range(cls: type) -> None:
    for field in dataclasses.fields(cls):
        if field.default not in (dataclasses.MISSING, None) and not isinstance(field.default, tuple):
            kinds = (str,) if isinstance(field.default, str) else (int, float)
            for rule, _ in rules(cls)[field.name]:
                if isinstance(rule, Range) == (kinds != (str,)):
                    assert rule.problem(field.default) is None


def _load(*overrides: str) -> object:
    return load_sweep("memory_vs_moe", ["launcher=local", "scale=laptop", *overrides])


@pytest.mark.parametrize(
    "override, said",
    [
        ("recipe.learning_rate={rule: fixed, value: 1e300}", r"learning_rate.value .* is 1e\+300; .* at most 1,000"),
        ("scale.seeds=[100000000000000000000]", r"scale.seeds .*at most 9,223,372,036,854,775,807 \(the results table"),
        (f"scale.seeds=[{10**330}]", "at most 9,223,372,036,854,775,807"),
        ("recipe.weight_decay=inf", "recipe.weight_decay .command line. is inf; it must be at most"),
        ("recipe.weight_decay=-1e9", "must be at least 0"),
        ("recipe.eps=0", "must be greater than zero"),
        ("launcher.memory=abc", r"launcher.memory .* is 'abc'; it needs a whole number and a unit, such as 64G"),
        ("launcher.device_memory=80X", "such as 80G or 512M"),
        ('launcher.partition="a\nb"', "launcher.partition .* one word without spaces"),
        ("launcher.exclude='a b'", "one word without spaces"),
        ("families.moe.layers=[5000]", r"families.moe.layers .* is 5000; it must be at most 4,095"),
        ("families.moe.layers=al", "valid: all, middle"),
        ("recipe.tune.learning_rates=[0.1,1e9]", "recipe.tune.learning_rates"),
        ("data.sources.facts.num_people=1000000000000", "num_people .* at most 100,000,000"),
    ],
)  # fmt: skip
def test_what_lies_outside_is_refused_with_its_place_and_the_reason(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _load(override)


def test_a_nan_and_a_range_of_direct_construction_are_refused() -> None:
    with pytest.raises(ConfigError, match="weight_decay is nan"):
        Optimizer(learning_rate=0.1, weight_decay=float("nan"))
    assert from_plain(Launcher, {"memory": "0", "gres": "gpu:a100:2", "exclude": "a[1,3],b2"}).gres == "gpu:a100:2"


def test_the_page_of_keys_is_what_the_classes_say() -> None:
    written = Path(__file__).parents[2] / "docs" / "keys.md"
    assert written.read_text(encoding="utf-8") == keys.page(), "run: python -m memscale.config.keys > docs/keys.md"
