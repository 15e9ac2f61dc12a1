"""Which nodes are left out, and what then counts against a run."""

from __future__ import annotations

from pathlib import Path

from memscale.launch.executor import RunStatus
from memscale.launch.nodes import avoided, own, suspicious_nodes
from memscale.records.atomic import write_json
from memscale.records.attempts import Outcome
from memscale.records.layout import RunPaths


def ended(host: str, cause: str = "error", at: float = 1.0) -> Outcome:
    return Outcome(cause=cause, evidence="", started=0.0, ended=at, host=host)


def run(name: str, *outcomes: Outcome, state: str = "unsubmitted", trains_on: str = "") -> RunStatus:
    return RunStatus(paths=RunPaths(Path(name)), state=state, outcomes=outcomes, trains_on=trains_on)


def done(root: Path, host: str) -> RunStatus:
    paths = RunPaths(root)
    paths.attempt(1).mkdir(parents=True)
    write_json(paths.attempt(1) / "submission.json", {"host": host}, format=1)
    return RunStatus(paths=paths, state="done")


def test_a_node_is_suspected_once_two_runs_failed_on_it_in_a_row_and_the_sweep_does_well_elsewhere(
    tmp_path: Path,
) -> None:
    failed = [run("a", ended("n1", at=1.0)), run("b", ended("n1", at=2.0))]
    assert suspicious_nodes(failed) == []  # the sweep's own fault, for all that is known
    assert suspicious_nodes(failed, done_on=("n5",)) == ["n1"]
    assert suspicious_nodes([*failed, done(tmp_path / "c", "n2")]) == ["n1"]
    assert suspicious_nodes([*failed, done(tmp_path / "d", "n1")]) == []  # the only node there is
    assert suspicious_nodes([*failed, run("c", state="working", trains_on="n2")]) == ["n1"]
    assert suspicious_nodes([*failed, run("c", ended("n2", "preempted"))]) == ["n1"]
    assert suspicious_nodes([*failed, run("c", state="working", trains_on="n1")]) == []
    assert suspicious_nodes([*failed, run("c", state="working")]) == []  # still starting


def test_one_run_that_fails_everywhere_and_a_node_that_recovered_are_not_a_nodes_fault() -> None:
    assert suspicious_nodes([run("a", ended("n1"), ended("n1", at=2.0))], done_on=("n5",)) == []
    recovered = [run("a", ended("n1", at=1.0)), run("b", ended("n1", at=2.0)), run("c", ended("n1", "stopped", at=3.0))]
    assert suspicious_nodes(recovered, done_on=("n5",)) == []


def test_no_more_than_half_of_the_nodes_is_left_out_and_those_with_most_faults_first() -> None:
    hosts = ["n1", "n2", "n2", "n3", "n1", "n2", "n3"]
    failed = [run(f"r{i}", ended(host, at=float(i))) for i, host in enumerate(hosts)]
    assert suspicious_nodes(failed, done_on=("n5",)) == ["n2", "n1"]
    assert suspicious_nodes([*failed, run("w", state="working", trains_on="n4")]) == ["n2", "n1"]


def test_a_run_avoids_the_nodes_of_its_last_faults() -> None:
    outcomes = [ended("n1", "killed"), ended("n2", "preempted"), ended("n4"), ended("n3", "lost"), ended("", "lost")]
    assert avoided(outcomes) == ("n3", "n4")
    assert avoided(outcomes[:2]) == ()
    assert avoided([]) == ()


def test_a_suspected_node_is_forgiven_a_fault_of_a_run_once_and_nothing_else() -> None:
    first, elsewhere, again, own_fault = ended("n1"), ended("n2", "killed"), ended("n1"), ended("n1", "diverged")
    assert own([first, elsewhere, again], ["n1"]) == [elsewhere, again]  # it could go nowhere else
    assert own([own_fault], ["n1"]) == [own_fault]
    assert own([first, elsewhere], []) == [first, elsewhere]


def test_where_all_fail_on_the_only_node_their_faults_count() -> None:
    failed = [run("a", ended("n1")), run("b", ended("n1")), run("c", ended("n1", "preempted"))]
    assert suspicious_nodes(failed, done_on=("n1",)) == []
