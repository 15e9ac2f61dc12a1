"""Variables of the environment reach the keys that name an account or a place, and no others."""

from __future__ import annotations

import os

import pytest
from omegaconf import OmegaConf

from memscale.config.load import load_sweep
from memscale.errors import ConfigError


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_ACCOUNT", "lab")
    monkeypatch.setenv("MY_TOKEN", "geheim")


def load(*overrides: str) -> object:
    return load_sweep("memory_vs_moe", ["launcher=local", *overrides]).sweep


def test_an_account_may_come_from_the_environment() -> None:
    sweep = load_sweep(
        "memory_vs_moe", ["launcher=slurm", "scale=laptop", "launcher.account=${oc.env:MY_ACCOUNT}"]
    ).sweep
    assert sweep.launcher.account == "lab"
    sweep = load_sweep("memory_vs_moe", ["launcher=slurm", "scale=laptop", "launcher.qos=${oc.env:NOT_SET,low}"]).sweep
    assert sweep.launcher.qos == "low"


@pytest.mark.parametrize(
    "override, said",
    [
        ("question=${oc.env:MY_ACCOUNT}", "question takes the environment variable MY_ACCOUNT; only launcher.account"),
        ("launcher.setup=['echo ${oc.env:MY_ACCOUNT}']", r"launcher.setup\[0\] takes"),
        ("caveats=['${oc.${x}:MY_ACCOUNT}']", "caveats"),
        ("launcher.account=${oc.env:MY_TOKEN}", "a secret by its name"),
        ("data.name=${oc.env:HOME}", "data.name takes"),
    ],
)
def test_no_other_key_and_no_secret(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        load(*(["+x=env"] if "${x}" in override else []), override)
    assert "geheim" not in str(raised.value)
    assert os.environ["HOME"] not in str(raised.value)


def test_omegaconf_is_left_as_it_was() -> None:
    load()
    assert OmegaConf.create({"a": "${oc.env:MY_ACCOUNT}"}).a == "lab"
