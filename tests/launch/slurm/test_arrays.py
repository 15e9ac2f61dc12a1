"""What is submitted to SLURM, in how many arrays, and what happens where sbatch refuses or does not say."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from memscale.config.launcher import Launcher
from memscale.config.resources import Resources
from memscale.launch.slurm import arrays, commands
from memscale.launch.slurm.arrays import adopt_orphans, submit
from memscale.launch.slurm.commands import SlurmError
from memscale.records.layout import SweepPaths
from memscale.records.submissions import (
    Refusal,
    Submission,
    accepted,
    new_submission,
    read_refusals,
    submissions,
    write_submission,
)
from tests.launch.fake_slurm import FakeSlurm, requests


def arrays_of(paths: SweepPaths, *arguments: Any, **words: Any) -> list[Submission]:
    """The arrays that this submission made."""
    before = {one.uid for one in submissions(paths)}
    submit(paths, *arguments, **words)
    return [one for one in submissions(paths) if one.uid not in before and not one.void]


def test_arrays_are_cut_at_the_clusters_limit_and_share_the_workers(paths: SweepPaths, slurm: FakeSlurm) -> None:
    slurm.say({"scontrol config": "MaxArraySize            = 10"})
    done = arrays_of(paths, Launcher(workers=40), paths.code, requests(paths, 95), num_alive=10, exclude=("n9",))
    assert [len(one.runs) for one in done] == [10] * 9 + [5]
    assert len(slurm.calls("sbatch")) == 10
    assert len({one.array for one in done}) == 10
    scripts = [path.read_text() for path in paths.slurm.glob("*/*_submission.sh")]
    assert sum("--array=0-9%3" in script for script in scripts) == 9
    assert sum("--array=0-4%3" in script for script in scripts) == 1
    assert all("--exclude=n9" in script and "--signal=USR2@120" in script for script in scripts)
    assert {run for one in submissions(paths) for run in one.runs} == {o.paths.root.name for o in requests(paths, 95)}


def test_runs_that_ask_for_the_same_are_an_array_and_all_arrays_share_the_workers(
    paths: SweepPaths, slurm: FakeSlurm
) -> None:
    large = Resources(families=("memory_plus",), params_above=1e9, memory="512G", gpus_per_run=4, partition="big")
    launcher = Launcher(name="slurm", workers=9, resources=(large, Resources(flops_above=1e20, minutes=60)))
    asked = [
        launcher.for_run(family, params, flops)
        for family, params, flops in [
            ("dense", 2e9, 1e19), ("memory_plus", 2e9, 1e19), ("memory_plus", 1e9, 1e19), ("memory_plus", 2e9, 2e20),
            ("dense", 2e9, 2e20), ("memory_plus", 3e9, 1e19),
        ]
    ]  # fmt: skip
    given = [replace(request, resources=one) for request, one in zip(requests(paths, 6), asked, strict=True)]
    done = arrays_of(paths, launcher, paths.code, given, num_alive=1, exclude=())
    assert [len(one.runs) for one in done] == [2, 2, 1, 1]
    assert len(slurm.calls("sbatch")) == 4
    assert done[1].runs == tuple(given[place].paths.root.name for place in (1, 5))
    scripts = [next((paths.slurm / one.uid).glob("*_submission.sh")).read_text() for one in done]
    for script, memory, gpus, minutes in zip(
        scripts, ("64G", "512G", "512G", "64G"), (1, 4, 4, 1), (1440, 1440, 60, 60), strict=True
    ):
        assert f"--mem={memory}\n" in script
        assert f"--gpus-per-node={gpus}\n" in script
        assert f"--ntasks-per-node={gpus}\n" in script
        assert f"--time={minutes}\n" in script
        assert ("--partition=big" in script) == (gpus == 4)
        assert ("--kill-on-bad-exit=1" in script) == (gpus == 4)
    assert all("--array=0-1%2" in script for script in scripts[:2])  # of 8 workers that are free, 2 an array


def test_a_cluster_without_arrays_and_one_run_get_single_jobs(paths: SweepPaths, slurm: FakeSlurm) -> None:
    slurm.say({"scontrol config": "MaxArraySize            = 0"})
    done = arrays_of(paths, Launcher(), paths.code, requests(paths, 2), num_alive=0, exclude=())
    assert [one.job_id(0) for one in done] == ["101", "102"]


def test_runs_whose_job_is_refused_do_not_keep_the_others_from_theirs(paths: SweepPaths, slurm: FakeSlurm) -> None:
    refuses = (
        "#!/bin/sh\n/bin/grep -q mem=900G $1 && { echo 'Memory specification can not be satisfied' >&2; exit 1; }\n"
    )
    (slurm.folder / "sbatch").write_text(f"{refuses}echo Submitted batch job 300\n")
    first, *others = requests(paths, 3)
    given = [replace(first, resources=Launcher(name="slurm", memory="900G")), *others]
    said = submit(paths, Launcher(name="slurm"), paths.code, given, num_alive=0, exclude=())
    assert said.num_runs == 2
    assert said.full == ""
    assert list(said.refused) == [first.paths.root.name]
    assert "Memory specification can not be satisfied" in said.refused[first.paths.root.name]
    assert read_refusals(paths) == {first.paths.root.name: Refusal(why=said.refused[first.paths.root.name], full=False)}
    assert [(one.void, len(one.runs)) for one in submissions(paths)] == [(True, 1), (False, 2)]
    (slurm.folder / "sbatch").write_text("#!/bin/sh\necho Submitted batch job 301\n")
    submit(paths, Launcher(name="slurm"), paths.code, given[:1], num_alive=2, exclude=())
    assert read_refusals(paths) == {}


LIMITED = """#!{python}
import os, re, sys
folder = os.path.dirname(os.path.abspath(sys.argv[0]))
script = open(sys.argv[1]).read() if len(sys.argv) == 2 else sys.stdin.read()
array = re.search("--array=0-([0-9]+)", script)
size, room = int(array[1]) + 1 if array else 1, int(open(folder + "/room").read())
if size > room:
    print("sbatch: error: AssocMaxSubmitJobLimit", file=sys.stderr)
    sys.exit("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's "
             "size and/or time limits)")
open(folder + "/room", "w").write(str(room - size))
print("Submitted batch job", 1000 - room)
"""
"""An sbatch that takes as many jobs as the file `room` says."""


def test_as_many_runs_are_submitted_as_the_queue_has_room_for(paths: SweepPaths, slurm: FakeSlurm) -> None:
    (slurm.folder / "sbatch").write_text(LIMITED.format(python=sys.executable))
    (slurm.folder / "room").write_text("23")
    places: list[str] = []
    given = requests(paths, 95)

    def keep_a_place() -> None:
        places.append((slurm.folder / "room").read_text())
        (slurm.folder / "room").write_text(str(int(places[-1]) - 1))

    said = submit(paths, Launcher(), paths.code, given, num_alive=0, exclude=(), on_full=keep_a_place)
    assert places == ["23"]  # asked once, while there still was room
    assert (said.num_runs, said.refused) == (22, {})
    assert "AssocMaxSubmitJobLimit" in said.full
    taken = [one for one in submissions(paths) if not one.void]
    assert [run for one in taken for run in one.runs] == [one.paths.root.name for one in given[:22]]
    assert len(list(submissions(paths))) == len(taken)  # of tries that found no room nothing is kept
    assert len([path for path in paths.slurm.iterdir() if path.is_dir()]) == len(taken) + 1  # and `submissions`
    assert {run for run, one in read_refusals(paths).items() if one.full} == {one.paths.root.name for one in given[22:]}


def test_an_array_that_may_have_been_taken_all_the_same_is_looked_for_before_it_is_submitted_again(
    paths: SweepPaths, slurm: FakeSlurm
) -> None:
    said = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    (slurm.folder / "sbatch").write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    with pytest.raises(SlurmError, match="timed out"):
        submit(paths, Launcher(), paths.code, requests(paths, 3), num_alive=0, exclude=())
    (intent,) = submissions(paths)
    assert (intent.void, intent.array) == (False, None)
    assert not adopt_orphans(paths, {})


def test_a_retried_run_keeps_away_from_the_node_that_failed_it_where_there_are_others(
    paths: SweepPaths, slurm: FakeSlurm
) -> None:
    given = [replace(request, avoid=("n3",) if i else ()) for i, request in enumerate(requests(paths, 3))]
    done = arrays_of(paths, Launcher(), paths.code, given, num_alive=0, exclude=("n9",))
    assert [len(one.runs) for one in done] == [1, 2]
    scripts = [next((paths.slurm / one.uid).glob("*_submission.sh")).read_text() for one in done]
    assert "--exclude=n9\n" in scripts[0]
    assert "--exclude=n9,n3\n" in scripts[1]
    refusing = "#!/bin/sh\n/bin/grep -q exclude=n9,n3 $1 && exit 1\necho Submitted batch job 300\n"
    (slurm.folder / "sbatch").write_text(refusing)
    (alone,) = arrays_of(paths, Launcher(), paths.code, given[1:], num_alive=0, exclude=("n9",))
    assert alone.array == "300"
    assert [one.void for one in submissions(paths)] == [False, False, True, False]


def test_jobs_that_wait_are_counted_for_this_sweep_alone(paths: SweepPaths, slurm: FakeSlurm) -> None:
    submission = new_submission("s", tuple(request.paths.root.name for request in requests(paths, 2)))
    write_submission(paths, submission)
    accepted(paths, submission, "7")
    name = submission.name
    lines = [f"7|0|PENDING||{name}|Priority", f"7|1|RUNNING|n3|{name}|None", "8|0|PENDING||memscale-other-1|Priority"]
    slurm.say({"squeue": "\n".join(lines)})
    assert arrays.waiting_jobs(paths) == 1


def test_an_orphaned_array_is_adopted_or_cancelled(
    paths: SweepPaths, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(arrays, "accepted", die)
        with pytest.raises(KeyboardInterrupt):
            submit(paths, Launcher(), paths.code, requests(paths, 3), num_alive=0, exclude=())
    (intent,) = submissions(paths)
    assert intent.array is None
    assert not adopt_orphans(paths, {})  # sbatch may have outlived its launcher by a moment
    slurm.say({"squeue": "\n".join(f"101|{i}|PENDING||{intent.name}|Priority" for i in range(3))})
    assert adopt_orphans(paths, commands.queue())
    assert [one.array for one in submissions(paths)] == ["101"]

    write_submission(paths, intent)
    next(paths.slurm.glob("*/101_2_submitted.pkl")).unlink()
    assert not adopt_orphans(paths, commands.queue())
    assert slurm.calls("scancel") == [["--quiet", "101"]]
