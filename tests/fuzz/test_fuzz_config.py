"""Every key of a sweep x wrong values: refused in one sentence, or accepted in its stated range and planned."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memscale.cli import main as cli
from memscale.config.codec import from_plain, to_plain
from memscale.config.load import load_sweep
from memscale.config.ranges import Checked, rules
from memscale.config.run import Digests
from memscale.config.sweep import Sweep
from memscale.errors import ConfigError, MemscaleError
from memscale.planning.budgets import size_knowledge
from memscale.planning.plan import make_plan
from tests.fuzz.fuzzing import Tally, command, listing, number_of, one_screen, rng

DIGESTS = Digests(data="0" * 64, tokenizer="1" * 64, evaluation="2" * 64)
WRONG: tuple[Any, ...] = (
    None, True, "", "abc", "\0", "a\nb", -1, 0, 1, 2, 3, 7, 1.5, 0.5, 1e-320, -0.0, 1e300, -1e300, math.inf, -math.inf,
    math.nan, 10**20, 2**63, 2**63 - 1, 10**400, 1e9, 10**6, [], [1], [[]], [None], ["a", "a"], {}, {"a": 1}, "1e400",
    "../../x", "${oc.env:HOME}", "9" * 50, "données 日本", "x" * 5_000, "\ud800", "middle", "none", "all", "64G",
)  # fmt: skip
_SHAPES = {"head_width": 16, "width_per_layer": 16}
_LADDER = {"d_models": [32, 64], "tokens_per_parameter": 2.0, "shapes": _SHAPES}
_ISOFLOP = {"flops": [3e11], "points": 3, "tokens_per_parameter": 20, "shapes": _SHAPES}
_GRID = [
    {"families": ["memory_plus"], "product": {"knn": [4, 8]}, "zip": {"num_heads": [2, 4]}},
    {"families": ["dense"]},
]


def _base() -> dict[str, Any]:
    """A sweep with an entry of every kind, all keys written out."""
    sweep = load_sweep("memory_layers_at_scale", ["launcher=local", "scale=laptop", "limits.gpu_hours=100"]).sweep
    plain: dict[str, Any] = to_plain(sweep)
    plain["scale"] |= {"ladders": [_LADDER], "isoflops": [_ISOFLOP]}
    plain["families"].append({"family": "looped", "name": "looped"})
    plain["grid"] = _GRID
    plain["data"]["sources"].append({"kind": "text_files", "name": "text", "files": ["a/*.txt"]})
    plain["data"]["sources"].append({"kind": "hf", "name": "hub", "path": "a/b", "revision": "c"})
    plain["launcher"]["resources"] = [{"families": ["dense"], "memory": "9G"}]
    plain["matching"]["throughput"] = {"dense": 1e12}
    whole: dict[str, Any] = to_plain(from_plain(Sweep, plain))
    return whole


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key, and every list as a whole and by its elements."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _paths(inner, (*path, number))


def _with(plain: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(plain)
    node: Any = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return changed


def _hold(value: Any) -> None:
    """Every number and text of an accepted sweep is in the stated range, and can be written to the results table."""
    if isinstance(value, Checked):
        for name, held in rules(type(value)).items():
            for one in _leaves(getattr(value, name)):
                problems = [rule.problem(one) for rule, _ in held if isinstance(one, str) is (not hasattr(rule, "low"))]
                assert not problems or None in problems, f"{name} is {one!r}: {problems}"
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _hold(getattr(value, field.name))
    elif isinstance(value, tuple):
        for inner in value:
            _hold(inner)
    elif isinstance(value, float):
        assert math.isfinite(value)
    elif isinstance(value, int):
        assert -(2**63) <= value < 2**63
    elif isinstance(value, str):
        assert "\0" not in value
        value.encode()


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, int | float | str) and not isinstance(value, bool):
        yield value


def _plan(sweep: Sweep) -> None:
    plan = make_plan(size_knowledge(sweep), DIGESTS)
    for run in plan.runs:
        for count in dataclasses.asdict(run.counts).values():
            for one in _leaves(count):
                assert math.isfinite(one)
                assert abs(one) < 2**63 or isinstance(one, float), f"{run.name}: {one} does not fit the results table"
        assert 0 < run.tokens < 2**63


def test_every_key_with_wrong_values() -> None:
    base, tally, random_ = _base(), Tally("config keys"), rng("config")
    paths = list(_paths(base))
    assert len(paths) > 250
    pairs = [(path, value) for path in paths for value in WRONG]
    random_.shuffle(pairs)
    for path, value in pairs[: number_of(800, len(pairs))]:
        what = f"{'.'.join(map(str, path))} = {str(value)[:80]!r}"
        with tally.attempt(what):
            try:
                sweep = from_plain(Sweep, _with(base, path, value))
            except ConfigError as error:
                one_screen(str(error))
                continue
            tally.accepted += 1
            _hold(sweep)
            try:
                _plan(sweep)
            except MemscaleError as error:
                one_screen(str(error))
    tally.check(least_accepted=20)


def _override(path: tuple[Any, ...], value: Any) -> str:
    key = ".".join(map(str, path))
    text = json.dumps(value) if isinstance(value, list | dict | bool) or value is None else str(value)
    return f"{key}={text}"


def test_overrides_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way, through the verb `plan`: composing, describing where a key stands, planning, printing."""
    monkeypatch.setenv("MEMSCALE_RUNS", str(tmp_path / "runs"))
    sweep = load_sweep("memory_vs_moe", ["launcher=local", "scale=laptop"]).sweep
    paths = [path for path in _paths(_as_yaml(to_plain(sweep))) if len(path) > 1 and path[0] not in ("grid",)]
    tally, random_, before = Tally("overrides"), rng("overrides"), listing(tmp_path)
    for number in range(number_of(25, 1_500)):
        known = number % 5 == 0  # a sensible override in between, so that what is looked at is not refusals alone
        override = "recipe.clip_norm=0.5" if known else _override(random_.choice(paths), random_.choice(WRONG))
        if not known and random_.random() < 0.3:
            override = _mutated(override, random_)
        with tally.attempt(override):
            status, told = command(cli.main, ["plan", "memory_vs_moe", "launcher=local", "scale=laptop", override])
            tally.accepted += status == 0
            assert "Exception" not in told
            assert listing(tmp_path) == before, "a plan writes nothing"
    tally.check(least_accepted=1)


def _as_yaml(plain: dict[str, Any]) -> dict[str, Any]:
    """Families and sources as mappings, as in YAML, so that an override can name them."""
    plain["families"] = {one.pop("name"): one for one in plain["families"]}
    plain["data"]["sources"] = {one.pop("name"): one for one in plain["data"]["sources"]}
    return plain


def _mutated(text: str, random_: random.Random) -> str:
    for _ in range(random_.randint(1, 4)):
        place = random_.randrange(len(text) + 1)
        text = (
            text[:place]
            + random_.choice("=.,[]{}()'\"\\$#@:~+ \t\n\0é日%|*&!?<>")
            + text[place + random_.randint(0, 1) :]
        )
    return text
