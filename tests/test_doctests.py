"""The examples in docstrings run, and print what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

PACKAGES = [
    "analysis",
    "memscale.api",
    "memscale.config",
    "memscale.data",
    "memscale.evaluation",
    "memscale.export",
    "memscale.kernels",
    "memscale.launch",
    "memscale.models",
    "memscale.planning",
    "memscale.training",
]
"""Modules and packages whose examples run, with all packages below them. Each must hold at least one."""


def _modules(package: str) -> list[str]:
    """Names of the modules of `package`, itself included, whose source holds an example."""
    root = importlib.import_module(package)
    assert root.__file__ is not None
    files = {package: Path(root.__file__)}
    for module in pkgutil.walk_packages(getattr(root, "__path__", []), f"{package}."):
        folder = Path(module.module_finder.path)
        leaf = module.name.rpartition(".")[2]
        files[module.name] = folder / leaf / "__init__.py" if module.ispkg else folder / f"{leaf}.py"
    return sorted(name for name, file in files.items() if ">>>" in file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_of_the_list_has_examples(package: str) -> None:
    assert _modules(package)


@pytest.mark.parametrize("name", [name for package in PACKAGES for name in _modules(package)])
def test_the_examples_of_a_module_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # an example may write files
    monkeypatch.setenv("MEMSCALE_RUNS", str(tmp_path / "runs"))
    module = importlib.import_module(name)
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert tried > 0, f"{name} holds >>> outside docstrings"
    assert failed == 0, f"{failed} of {tried} examples of {name} do not print what they show (see above)"
