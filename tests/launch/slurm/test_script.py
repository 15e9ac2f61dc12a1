"""What a site can say of its jobs reaches sbatch and srun as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memscale.config.codec import from_plain, to_plain
from memscale.config.launcher import Launcher
from memscale.errors import ConfigError
from memscale.launch.slurm.commands import split_nodes
from memscale.launch.slurm.controllers import _options, controller_name
from memscale.launch.slurm.script import job_parameters, output_parameters, requests_changed
from memscale.records.layout import SweepPaths


def launcher(**keys: Any) -> Launcher:
    """The launcher of a YAML file with these keys; through launch.json, as a controller reads it."""
    return from_plain(Launcher, to_plain(from_plain(Launcher, {"name": "slurm", **keys})))


@pytest.mark.parametrize(
    ("nodes", "parts"),
    [
        ("a[1,3],b[2,3]", ["a[1,3]", "b[2,3]"]),
        ("a1,b2", ["a1", "b2"]),
        ("r[01-04,07]n[1,2],c", ["r[01-04,07]n[1,2]", "c"]),
    ],
)
def test_lists_of_nodes_keep_their_brackets_whole(nodes: str, parts: list[str]) -> None:
    assert split_nodes(nodes) == parts
    found = job_parameters(launcher(exclude=nodes), Path("/c"), exclude=("b2", "z9"))["exclude"]
    assert found == ",".join(dict.fromkeys([*parts, "b2", "z9"]))


def test_other_options_of_sbatch_and_srun_are_handed_on() -> None:
    given = launcher(sbatch={"reservation": "maxwell", "nice": 100, "exclusive": True}, srun=["--mpi=none"])
    found = job_parameters(given, Path("/c"))
    assert found["additional_parameters"] == {
        "mem": "64G", "requeue": True, "reservation": "maxwell", "nice": 100, "exclusive": True,
    }  # fmt: skip
    assert found["srun_args"] == ["--mpi=none"]


def test_a_folder_with_what_slurm_gives_a_meaning_holds_the_output_all_the_same() -> None:
    given = job_parameters(launcher(sbatch={"nice": 100}, srun=["--mpi=none"]), Path("/c"))
    assert output_parameters(given, Path("/runs/s/slurm/0a"), is_array=True) == given
    folder = Path("/100 % %41 %j/slurm/0a")
    array = output_parameters(given, folder, is_array=True)
    assert array["additional_parameters"]["output"] == "/100 %% %%41 %%j/slurm/0a/%A_%a_0_log.out"
    assert array["additional_parameters"]["nice"] == 100
    assert array["srun_args"] == ["--mpi=none", "--output=/100 %% %%41 %%j/slurm/0a/%A_%a_%t_log.out"]
    alone = output_parameters(given, folder, is_array=False)
    assert alone["additional_parameters"]["output"] == "/100 %% %%41 %%j/slurm/0a/%j_0_log.out"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"sbatch": {"mem": "4G"}}, "has a key of its own: launcher.memory"),
        ({"sbatch": {"job-name": "x"}}, "set by memscale"),
        ({"sbatch": {"--reservation": "x"}}, "without --"),
        ({"sbatch": {"comment": "a\nb"}}, "on one line"),
        ({"check_sbatch": {"wrap": "rm"}}, "set by memscale"),
        ({"environment": {"A B": "x"}}, "letters, digits and _"),
    ],
)
def test_options_that_are_ours_or_none_are_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        launcher(**keys)


@pytest.mark.parametrize(("gres", "gpus"), [("gpu:a100:2", None), ("nvme:1", 2), ("nvme:1,gpu:2", None), (None, 2)])
def test_gpus_are_asked_for_once(gres: str | None, gpus: int | None) -> None:
    found = job_parameters(launcher(gres=gres, gpus_per_run=2), Path("/c"))
    assert found.get("gpus_per_node") == gpus
    assert found["ntasks_per_node"] == 2


def test_what_a_new_launch_asks_for_otherwise_is_named() -> None:
    before = launcher(memory="900G", check_minutes=1)
    now = launcher(memory="64G", check_minutes=2, sbatch={"reservation": "x"}, retries={"error": 1})
    assert requests_changed(before, now) == ["launcher.memory", "launcher.sbatch"]
    assert requests_changed(now, now) == []


def test_variables_are_quoted_and_a_container_gets_what_the_worker_reads() -> None:
    given = launcher(environment={"HF_HOME": "/it's here", "N": 3}, container="me/image:1", container_mounts=["/s:/s"])
    found = job_parameters(given, Path("/code"), folders=(Path("/code"), Path("/runs/x"), Path("/code")))
    assert "export HF_HOME='/it'\"'\"'s here'" in found["setup"]
    assert "export N=3" in found["setup"]
    assert found["srun_args"] == [
        "--container-image=me/image:1", "--container-mounts=/code:/code,/runs/x:/runs/x,/s:/s",
        "--container-workdir=/code",
    ]  # fmt: skip


def test_controllers_have_a_place_and_options_of_their_own() -> None:
    runs = {"partition": "gpu", "account": "me", "constraint": "a100", "exclude": "a[1,3]"}
    assert _options(launcher(**runs)) == [
        "--partition=gpu", "--account=me", "--constraint=a100", "--exclude=a[1,3]",
    ]  # fmt: skip
    apart = launcher(**runs, check_partition="cpu", check_sbatch={"reservation": "x"})
    assert _options(apart) == ["--partition=cpu", "--account=me", "--exclude=a[1,3]", "--reservation=x"]


def test_sweeps_of_one_name_in_two_folders_have_controllers_of_their_own(tmp_path: Path) -> None:
    first, second = (controller_name(SweepPaths(tmp_path / name / "s"), "look") for name in ("a", "b"))
    assert first != second
    assert first == controller_name(SweepPaths(tmp_path / "b" / ".." / "a" / "s"), "look")
