"""Composes `sweeps/<name>.yaml` and command-line overrides with Hydra into a validated `Sweep`.

The order, later values winning: the groups of the defaults list, the sweep's own file, its file for one scale
(`at/<name>_<scale>.yaml`), the command line. Defaults: launcher `slurm` where SLURM answers, else `local`; scale `node`
on SLURM, else `laptop`. Refuses unknown sweeps, groups, keys, types and values, and names the file that sets them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from memscale.config.codec import from_plain
from memscale.config.environment import guarded_environment
from memscale.config.overrides import check_override
from memscale.config.sweep import Sweep
from memscale.config.yaml_files import check_sweep_files, slip, sweeps_folder
from memscale.errors import ConfigError, nearest, one_line, shown

_PYTHON_ERRORS = (ValueError, TypeError, KeyError, AttributeError, RecursionError, AssertionError, OSError)
"""What Hydra lets through, beside its own errors, where a file or an override is not as it expects."""
GROUPS = ("scale", "family", "data", "recipe", "launcher", "evaluate")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A sweep, and which defaults were chosen."""

    sweep: Sweep
    notes: tuple[str, ...]
    """Sentences such as 'launcher local (no SLURM here)'."""


def sweep_names(folder: Path) -> list[str]:
    """Return the names of the sweeps in `folder`, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_sweep(name: str, overrides: Sequence[str] = (), *, folder: Path | None = None) -> Loaded:
    """Compose and validate a sweep.

    Args:
        name: The sweep's file name in `folder`, without `.yaml`.
        overrides: Hydra overrides, such as `scale=node` or `recipe.weight_decay=0`.
        folder: The folder of sweep files; None: `sweeps_folder()`.

    Returns:
        The sweep, and notes on the launcher and scale that were chosen.

    Raises:
        ConfigError: The sweep, a group, a key or a value is unknown or out of range.

    Example:
        >>> loaded = load_sweep("memory_vs_moe", ["launcher=local", "recipe.weight_decay=0"])
        >>> [family.name for family in loaded.sweep.families], loaded.sweep.recipe.weight_decay
        (['dense', 'moe', 'memory_plus'], 0.0)
        >>> load_sweep("memory_vs_mow")  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        memscale.errors.ConfigError: there is no sweep 'memory_vs_mow'
    """
    folder = folder or sweeps_folder()
    if name not in sweep_names(folder):
        names = sweep_names(folder)
        raise ConfigError(
            f"there is no sweep '{name}' in {folder}; there are: {', '.join(names)}.{nearest(name, names)}"
        )
    with guarded_environment():
        return _load(name, overrides, folder)


def _load(name: str, overrides: Sequence[str], folder: Path) -> Loaded:
    given = {override.split("=", 1)[0].lstrip("+~") for override in overrides}
    composed = _compose(folder, name, list(overrides))
    launcher_name = OmegaConf.select(composed, "launcher.name")
    extra: list[str] = []
    if launcher_name == "auto" and slurm_answers():
        extra.append("launcher=slurm")
    if (launcher_name == "slurm" or extra) and "scale" not in given:
        extra.append("scale=node")
    if extra:
        composed = _compose(folder, name, [*overrides, *extra])
    plain = _plain(composed)
    sweep = from_plain(Sweep, {"name": name, **plain}, describe=_Describe(folder, name, [*overrides, *extra]))
    launcher = "local" if sweep.launcher.name == "auto" else sweep.launcher.name
    sweep = replace(sweep, launcher=replace(sweep.launcher, name=launcher))
    return Loaded(sweep=sweep, notes=_notes(sweep, given, chosen=launcher_name == "auto"))


def slurm_answers() -> bool:
    """Whether `sbatch` runs here and, where `scontrol` exists, a SLURM controller answers its ping."""
    if shutil.which("sbatch") is None or not _runs("sbatch", "--version"):
        return False
    return shutil.which("scontrol") is None or _runs("scontrol", "ping")


def _runs(*command: str) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _notes(sweep: Sweep, given: set[str], *, chosen: bool) -> tuple[str, ...]:
    launcher = sweep.launcher.name
    why = ("SLURM answers here" if launcher == "slurm" else "no SLURM here") if chosen else "as asked"
    other = "local" if launcher == "slurm" else "slurm"
    scale = "as asked" if "scale" in given else f"the default on {launcher}"
    alternative = "SCALE=laptop" if sweep.scale.name != "laptop" else "SCALE=node for one GPU node"
    return (
        f"launcher {launcher} ({why}; LAUNCHER={other} changes it)",
        f"scale {sweep.scale.name} ({scale}; {alternative})",
    )


def _compose(folder: Path, name: str, overrides: list[str]) -> DictConfig:
    for override in overrides:
        check_override(override)
        _check_group(folder, override)
    check_sweep_files(folder, name, overrides)
    try:
        with initialize_config_dir(str(folder.absolute()), version_base="1.3"):
            return compose(name, overrides=[_forced(override) for override in overrides])
    except yaml.MarkedYAMLError as error:
        raise slip(folder, error) from None
    except (HydraException, OmegaConfBaseException, *_PYTHON_ERRORS) as error:
        told = one_line(str(error) or type(error).__name__, 600)
        given = one_line(" ".join(overrides)) or "no overrides"
        raise ConfigError(f"the sweep '{name}' cannot be composed from {folder} with {given}: {told}") from None


def _forced(override: str) -> str:
    """Prefix an override with `++`, so that it may set a key that no file has; `Sweep` checks which keys exist."""
    key = override.partition("=")[0]
    is_key = "=" in override and key[:1] not in "+~" and key.partition("@")[0] not in GROUPS
    return f"++{override}" if is_key else override


def _check_group(folder: Path, override: str) -> None:
    """Raise ConfigError where an override chooses a file of a group that is not there, with those that are."""
    key, equals, value = override.partition("=")
    key = key.lstrip("+~").partition("@")[0]
    group = folder / key
    options = sorted(path.stem for path in group.glob("*.yaml")) if key in GROUPS else []
    if equals and key in GROUPS and value not in (*options, "null"):
        near = nearest(value, options)
        raise ConfigError(f"{key} on the command line is {shown(value)}; valid: {', '.join(options)} ({group}).{near}")


def _plain(composed: DictConfig) -> dict[str, Any]:
    try:
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", "") or "a key")
        raise ConfigError(f"{key} has no value: {str(error).splitlines()[0]}. Give it with {key}=...") from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


class _Describe:
    """Describes where a key is set: on the command line, in a group's file, or in the sweep's own file."""

    def __init__(self, folder: Path, name: str, overrides: Sequence[str]) -> None:
        self._folder, self._name = folder, name
        self._overrides = dict(override.lstrip("+~").partition("=")[::2] for override in overrides)

    def __call__(self, key: str) -> str:
        if not key:
            return f"{self._folder.name}/{self._name}.yaml"
        return f"{key} ({self._place(key)})"

    def _place(self, key: str) -> str:
        for given in self._overrides:
            if given not in GROUPS and (key == given or key.startswith((f"{given}.", f"{given}["))):
                return "command line"
        own = self._folder / f"{self._name}.yaml"
        group, _, rest = key.partition(".")
        group = {"families": "family"}.get(group, group)
        scale = self._overrides.get("scale") or _default(own, "scale")
        at = self._folder / "at" / f"{self._name}_{scale}.yaml"
        if at.is_file() and _holds(at, group, rest):
            return str(at)
        if group not in GROUPS or _holds(own, group, rest):
            return str(own)
        if group == "family":
            option = rest.split(".")[0].split("[")[0]
        else:
            option = self._overrides.get(group) or _default(own, group)
        chosen = self._folder / group / f"{option}.yaml"
        return str(chosen if chosen.is_file() else own)


def _holds(path: Path, group: str, rest: str) -> bool:
    """Whether the file at `path` sets this key and so overrides the group."""
    node: Any = OmegaConf.load(path)
    for part in [{"family": "families"}.get(group, group), *re.split(r"[.\[]", rest)]:
        if not isinstance(node, DictConfig) or part not in node:
            return False
        node = node._get_node(part)
    return True


def _default(path: Path, group: str) -> str:
    entries: Any = OmegaConf.select(OmegaConf.load(path), "defaults", default=[])
    return next((str(entry[group]) for entry in entries if isinstance(entry, DictConfig) and group in entry), group)
