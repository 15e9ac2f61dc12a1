"""The rooms of memscale and analysis: imports only run down, in no circle; files and functions stay short in analysis.

A room is a folder, or a file, at the top of a package. Each list names the floors from the ground up: a room may import
rooms of lower floors, and none of its own floor or above. Imports inside functions and for type checking count too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {
    "memscale": [
        ["errors"],
        ["config"],
        ["planning", "kernels", "records"],
        ["data", "models"],
        ["training", "evaluation", "export", "tracking"],
        ["launch"],
        ["doctor"],
        ["api"],
        ["cli"],
    ],
    "analysis": [
        ["errors", "interval"],
        ["formatting", "card", "result"],
        ["tables", "laws"],
        ["solver"],
        ["inference"],
        ["fitting"],
        ["allocation", "gains", "downstream"],
        ["sweep", "published"],
        ["figures"],
        ["report"],
        ["findings"],
        ["api"],
        ["cli"],
        ["__main__"],
    ],
}
"""docs/architecture.md draws the same."""

ONLY_IN = {
    "hydra": {"memscale.config"},
    "mlflow": {"memscale.tracking", "memscale.doctor", "analysis.tables"},
    "submitit": {"memscale.launch"},
    "lm_eval": {"memscale.evaluation"},
    "analysis": {"memscale.launch", "memscale.api", "memscale.cli"},
    "memscale": set[str](),
}
"""Packages that only these rooms may import, and memscale none of analysis."""

WITHOUT_TORCH = {"memscale.config", "memscale.planning", "memscale.records", "memscale.tracking"}
"""Rooms that import no torch, as do all of analysis."""

LONGEST_FILE, LONGEST_FUNCTION = 300, 60
"""Lines; of a function without its docstring, whose example and sources may be as long as they need to be."""


def _modules(package: str) -> dict[str, ast.Module]:
    """The parsed source of every module of a package, by its name."""
    found = {}
    for file in sorted((ROOT / package).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(file.read_text(encoding="utf-8"))
    return found


MODULES = {package: _modules(package) for package in FLOORS}


def _imported(tree: ast.Module) -> Iterator[str]:
    """The modules that a module imports, and `module.name` for each name taken from one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports here are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _targets(package: str, name: str) -> set[str]:
    """The modules of its own package that a module imports."""
    modules = MODULES[package]
    found = set()
    for target in _imported(modules[name]):
        while target and target not in modules:
            target = target.rpartition(".")[0]
        if target:
            found.add(target)
    return found - {name}


def _room(name: str) -> str:
    return [*name.split("."), ""][1]


def test_every_room_has_a_floor() -> None:
    for package, floors in FLOORS.items():
        rooms = {_room(name) for name in MODULES[package]} - {""}
        known = {room for floor in floors for room in floor}
        assert rooms - known == set(), f"{package}: give these rooms a floor here and in docs/architecture.md"
        assert len(known) == sum(len(floor) for floor in floors)


@pytest.mark.parametrize("package", FLOORS)
def test_imports_run_down(package: str) -> None:
    height = {room: number for number, floor in enumerate(FLOORS[package]) for room in floor}
    upward = []
    for name in MODULES[package]:
        for target in _targets(package, name):
            here, there = _room(name), _room(target)
            if here and there and here != there and height[there] >= height[here]:
                upward.append((name, target))
    assert upward == []


@pytest.mark.parametrize("package", FLOORS)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    """Modules whose imports are all placed are placed in turn; what is left at the end lies on a circle, or above one.

    A package's `__init__` only hands names on, and lies above the modules that it names: an import of the package from
    its own modules is left out.
    """
    left = {
        name: {target for target in _targets(package, name) if not name.startswith(f"{target}.")}
        for name in MODULES[package]
    }
    while placed := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets for name, targets in left.items() if name not in placed}
    assert left == {}


@pytest.mark.parametrize("package", FLOORS)
def test_outer_packages_are_known_in_their_rooms_alone(package: str) -> None:
    for name, tree in MODULES[package].items():
        room = ".".join(name.split(".")[:2])
        for target in _imported(tree):
            outer = target.partition(".")[0]
            if outer != package and outer in ONLY_IN:
                assert room in ONLY_IN[outer], f"{name} imports {outer}; only {sorted(ONLY_IN[outer])} may"
            if outer == "torch":
                assert package != "analysis", f"{name} imports torch"
                assert room not in WITHOUT_TORCH, f"{name} imports torch"


def test_the_files_and_functions_of_analysis_are_short() -> None:
    long = []
    for file in sorted((ROOT / "analysis").rglob("*.py")):
        text, path = file.read_text(encoding="utf-8"), file.relative_to(ROOT)
        if (lines := len(text.splitlines())) > LONGEST_FILE:
            long.append(f"{path}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (lines := _length(node)) > LONGEST_FUNCTION:
                long.append(f"{path}: {node.name} has {lines} lines")
    assert long == []


def _length(function: ast.FunctionDef) -> int:
    assert function.end_lineno is not None
    docstring = ast.get_docstring(function, clean=False)
    return function.end_lineno - function.lineno + 1 - (len(docstring.split("\n")) if docstring else 0)


def test_files_and_pipes_are_read_and_written_as_utf8_whatever_the_locale() -> None:
    """Every call that opens a file or a pipe as text names its encoding; without one, Python takes the locale's."""
    without = []
    for package in (*FLOORS, "benchmarks", "docker", "docs"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and _opens_text(node) and not _names_an_encoding(node):
                    without.append(f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node.func)}")
    assert without == []


def _names_an_encoding(call: ast.Call) -> bool:
    return any(keyword.arg in ("encoding", None) for keyword in call.keywords)


def _opens_text(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    modes = [
        str(one.value) for one in given if isinstance(one, ast.Constant) and re.fullmatch("[rwaxbt+]+", str(one.value))
    ]
    if name == "open" and isinstance(call.func, ast.Name):
        return not any("b" in mode for mode in modes)
    if name in ("open", "fdopen", "TemporaryFile", "NamedTemporaryFile"):
        return any("b" not in mode for mode in modes)
    if name in ("run", "Popen", "check_output"):
        return any(keyword.arg in ("text", "universal_newlines") for keyword in call.keywords)
    return name in ("read_text", "write_text") and isinstance(call.func, ast.Attribute)
