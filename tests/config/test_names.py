"""Names that become folders keep one rule wherever they enter, and none leads out of its folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memscale import api
from memscale.config.budget import Budget
from memscale.config.codec import from_plain
from memscale.config.data import Facts
from memscale.config.family import DenseFamily, Family
from memscale.config.load import load_sweep
from memscale.config.names import NAME, check_id, check_name
from memscale.config.sweep import Evaluate, Sweep
from memscale.data.manifest import File, PreparedSource, SplitCounts
from memscale.errors import ConfigError, MemscaleError, RecordError
from memscale.records.layout import SweepPaths
from memscale.records.plan_file import read_plan_file
from memscale.records.submissions import submissions

HOSTILE = [
    "", ".", "..", "../x", "/etc/passwd", "a/b", "a/../../b", "a\\b", ".hidden", "-rf", "a b", "a\nb", "a\x00b", "$(x)",
    "a;b", "a'b", 'a"b', "a*", "a?", "[a]", "~", "a:b", "a|b", "a&b", "<a>", "ä", "a.", "a-", "x" * 81, "\u202egnp",
]  # fmt: skip


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return load_sweep("memory_vs_moe", ["launcher=local"]).sweep


COUNTS = SplitCounts(num_documents=1, num_tokens=1, num_bytes=1)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_hostile_name_enters_anywhere(name: str, sweep: Sweep) -> None:
    entries = (
        lambda: replace(sweep, name=name),
        lambda: Budget(name=name, flops=1e15, d_model=64, num_layers=2, num_heads=2),
        lambda: DenseFamily(name=name),
        lambda: Facts(name=name),
        lambda: Evaluate(tasks=(name,)),
        lambda: PreparedSource(name=name, kind="facts", weight=1.0, train=COUNTS, validation=COUNTS),
        lambda: File(path=f"tokens/{name}", num_bytes=1, sha256="0"),
        lambda: SweepPaths(Path("runs/s")).run(name, "0" * 12),
        lambda: SweepPaths(Path("runs/s")).run("dense", name),
        lambda: SweepPaths(Path("runs/s")).plan(name),
        lambda: SweepPaths(Path("runs/s")).data(f"/runs/data/{name}"),
        lambda: api.status(name),
        lambda: api.results(name),
        lambda: api.retry(name),
        lambda: api.cancel(name),
    )
    for number, enter in enumerate(entries):
        if (len(name) > 80 and number in (6, 7)) or (name == "a/b" and number == 6):
            continue  # names of runs and files may be longer, and files of a manifest lie in folders
        with pytest.raises(MemscaleError):
            enter()


@pytest.mark.parametrize("name", ["memory_vs_moe", "1e17-d384-L10", "134m", "a", "num_slots=4096", "v1.2+x", "a--b"])
def test_names_that_people_use_are_names(name: str) -> None:
    assert check_name("it", name) == name


def test_the_rule_is_said_with_the_place(sweep: Sweep) -> None:
    with pytest.raises(ConfigError, match=r"^families\.x.*is '\.\./x'; it needs letters, digits and _ \. .*folder"):
        from_plain(Family, {"name": "../x", "family": "dense"}, "families.x")
    with pytest.raises(ConfigError, match="a folder beside those of sweeps"):
        replace(sweep, name="data")
    with pytest.raises(ConfigError, match="12 hexadecimal digits"):
        check_id("it", "../../../etc")
    assert str(NAME).startswith("letters, digits")


def test_files_that_name_other_places_are_refused(tmp_path: Path) -> None:
    """What somebody else may have written into a sweep's folder."""
    paths = SweepPaths(tmp_path / "s")
    paths.submissions.mkdir(parents=True)
    paths.current_plan.write_text(json.dumps({"format": 2, "plan_hash": "../../elsewhere"}))
    with pytest.raises(RecordError, match="names no plan"):
        read_plan_file(paths)
    submission = {"format": 1, "uid": "../../../x", "name": "n", "runs": ["r"], "submitted": 0.0}
    (paths.submissions / "a.json").write_text(json.dumps(submission))
    with pytest.raises(RecordError, match="8 hexadecimal digits"):
        list(submissions(paths))


def test_data_are_beside_the_sweeps_whatever_a_file_says() -> None:
    paths = SweepPaths(Path("/new/runs/s"))
    assert paths.data("/old/runs/data/0123456789abcdef") == Path("/new/runs/data/0123456789abcdef")
