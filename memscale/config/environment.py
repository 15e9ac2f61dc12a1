"""Which keys of a sweep may take a value of the environment (`${oc.env:NAME}`): where a machine's own words belong.

What a sweep says is written to run.json, launch.json, the report and MLflow. So a variable goes only into keys that
name an account or a place, and never where its name says that it is a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from memscale.errors import ConfigError

KEYS = (
    "launcher.account", "launcher.partition", "launcher.qos", "launcher.constraint", "launcher.container",
    "data.files", "data.sources.*.files", "data.sources.*.path",
)  # fmt: skip
_SECRET = re.compile(r"pass|pwd|secret|token|credential|auth|key", re.IGNORECASE)


@contextmanager
def guarded_environment() -> Iterator[None]:
    """Let OmegaConf resolve `${oc.env:...}` in KEYS alone. Raises ConfigError where another key asks for it."""
    refused: list[ConfigError] = []

    def env(name: str, default: Any = "", *, _node_: Any = None) -> Any:
        key = str(_node_._get_full_key(None)) if _node_ is not None else "a key"
        problem = _problem(key, name)
        if problem:
            refused.append(ConfigError(problem))
            raise refused[-1]
        return oc.env(name) if default == "" else oc.env(name, default)

    OmegaConf.register_new_resolver("oc.env", env, replace=True)
    try:
        yield
    except Exception:
        if refused:
            raise refused[0] from None  # OmegaConf and Hydra wrap it in words of their own
        raise
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def _problem(key: str, name: str) -> str:
    plain = re.sub(r"\[\d+\]", "", key)
    if not any(fnmatchcase(plain, allowed) for allowed in KEYS):
        return (
            f"{key} takes the environment variable {name}; only {', '.join(KEYS)} may, since what a sweep says is "
            "written to its records, the report and MLflow. Write the value, or give it on the command line"
        )
    if _SECRET.search(name):
        return f"{key} takes the environment variable {name}, a secret by its name; what a sweep says is recorded"
    return ""
