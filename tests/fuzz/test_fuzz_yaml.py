"""Hostile YAML and names: the file is composed, or refused in one sentence with its name."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from memscale.cli import main as cli
from memscale.config.load import load_sweep
from memscale.config.yaml_files import check_yaml
from memscale.errors import ConfigError, MemscaleError
from memscale.launch.planned import sweep_paths
from memscale.records.layout import runs_root
from tests.fuzz.fuzzing import Tally, command, limited, number_of, one_screen, rng

SWEEPS = Path(__file__).parents[2] / "sweeps"
PIECES = (
    "\t", "\n", ": ", "- ", "? ", "&a ", "*a", "*b", "<<: *a\n", "!!python/object/apply:os.system [x]",
    "!!binary x", "---\n",
    "...\n", "%YAML 1.1\n", "|\n", ">-\n", "'", '"', "{", "}", "[", "]", ",", "#", "\0", "\x07", "\x85", "\u2028",
    "\ufeff",
    "${oc.env:HOME}", "${recipe.eps}", "${scale}", "${a", "???", "null", "~", "yes", "0x10", "1_000", "1e3",
    ".inf", ".nan", "2024-01-01",
    "9" * 500, "x" * 3_000, "[" * 60, "{a: " * 60, "- " * 200, "defaults: [recipe: none]\n", "defaults: 3\n", "é",
    "\U0001f600",
)  # fmt: skip
USED = ("memory_vs_moe", "scale/laptop", "recipe/default", "family/moe", "launcher/local", "data/facts_and_code",
        "at/memory_vs_moe_laptop")  # fmt: skip
VERBS = ("plan", "status", "results", "figures", "logs", "retry", "cancel")
NAMES = (
    "", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", "-rf", "--help", "~", "$HOME", "${x}",
    "con", " a",
    "a b", "é", "日本", "x" * 300, "*", "?", "[1]", "a:b", "a'b", 'a"b', ";ls", "a=1", "%s", "{}", "\ud800",
    "memory_vs_moe/",
)  # fmt: skip


def _mutated(content: bytes, random_: random.Random) -> bytes:
    for _ in range(random_.randint(1, 4)):
        place, length = random_.randrange(len(content) + 1), random_.choice((0, 0, 1, 3, 40))
        piece = random_.choice(PIECES).encode() if random_.random() < 0.8 else random_.randbytes(random_.randint(1, 4))
        if random_.random() < 0.2:
            other = random_.randrange(len(content) + 1)
            piece = content[other : other + random_.randint(1, 200)]
        content = content[:place] + piece + content[place + length :]
    return content


def test_mutated_files_are_read_or_refused_with_their_line(tmp_path: Path) -> None:
    tally, random_ = Tally("YAML files"), rng("yaml")
    files = sorted(SWEEPS.rglob("*.yaml"))
    path = tmp_path / "hostile.yaml"
    for _ in range(number_of(300, 4_000)):
        content = _mutated(random_.choice(files).read_bytes(), random_)
        path.write_bytes(content)
        with tally.attempt(repr(content[:300])):
            try:
                check_yaml(path)
                tally.accepted += 1
            except ConfigError as error:
                one_screen(str(error), of="hostile.yaml")
    tally.check(least_accepted=20)


def test_mutated_sweeps_are_composed_or_refused(tmp_path: Path) -> None:
    folder, tally, random_ = tmp_path / "sweeps", Tally("composed sweeps"), rng("sweeps")
    shutil.copytree(SWEEPS, folder)
    used = [folder / f"{one}.yaml" for one in USED]
    for _ in range(number_of(30, 1_200)):
        path = random_.choice(used)
        before = path.read_bytes()
        path.write_bytes(_mutated(before, random_))
        with tally.attempt(f"{path.name}: {path.read_bytes()[:2000]!r}"[:1500]):
            try:
                load_sweep("memory_vs_moe", ["launcher=local", "scale=laptop"], folder=folder)
                tally.accepted += 1
            except MemscaleError as error:
                one_screen(str(error))
        path.write_bytes(before)
    tally.check(least_accepted=1)


def test_hostile_names_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of sweeps, runs and groups, through every verb that only reads."""
    monkeypatch.setenv("MEMSCALE_RUNS", str(tmp_path / "runs"))
    (tmp_path / "plan.json").write_text("{}", encoding="utf-8")
    tally, random_ = Tally("names"), rng("names")
    for _ in range(number_of(40, 600)):
        name, verb = (
            random_.choice(NAMES),
            random_.choice(("plan", "status", "results", "figures", "logs", "retry", "cancel")),
        )
        if random_.random() < 0.3:
            name += random_.choice(NAMES)
        words = (
            [verb, name]
            if random_.random() < 0.6
            else ["plan", "memory_vs_moe", f"{random_.choice(('recipe', 'data'))}={name}"]
        )
        with tally.attempt(repr(words)):
            status, _ = command(cli.main, words)
            tally.accepted += status == 0
            assert not (tmp_path / "runs").exists(), "a verb that reads wrote something"
            assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json"]
    tally.check()


def test_the_paths_of_hostile_names_stay_in_the_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSCALE_RUNS", str(tmp_path / "runs"))
    for name in NAMES:
        with limited():
            try:
                folder = sweep_paths(name).root
            except MemscaleError:
                continue
            assert folder.resolve().is_relative_to(runs_root().resolve()), name
