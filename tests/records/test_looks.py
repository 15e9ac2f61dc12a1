"""How often a report was read, and what its plan stated: kept in order, each once, whatever is launched in between."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memscale.errors import RecordError
from memscale.records.layout import SweepPaths
from memscale.records.looks import Look, design_hash, read_looks, record_look
from memscale.records.plan_file import PlanRow
from memscale.records.resolution_file import StatedRow, Statement, check_statement, keep_statement, read_statement

A, B = "a" * 12, "b" * 12


def look(*seeds: int, plan_hash: str = A, time: float = 1.0) -> Look:
    return Look(seeds=seeds, plan_hash=plan_hash, time=time)


def row(series: str = "dense", seed: int = 0, budget: str = "small") -> PlanRow:
    return PlanRow(
        name=f"{series}-{budget}-s{seed}", stage="compare", run_id=None, series=series, family="dense", budget=budget,
        budget_flops=1.0, seed=seed, tokens=64, batch_tokens=32, d_model=8, num_layers=1, num_slots=None,
        learning_rate=None, table_learning_rate=None, params_total=100, params_active=100, params_non_embedding=50,
        params_table=0, flops_per_token_forward=1.0, flops_train=1.0, flops_mismatch=0.0, params_mismatch=None,
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(st.frozensets(st.integers(0, 9)), max_size=8))
def test_a_look_counts_where_it_has_a_new_seed(tmp_path_factory: pytest.TempPathFactory, taken: list[set[int]]) -> None:
    paths = SweepPaths(tmp_path_factory.mktemp("sweep"))
    seen: set[int] = set()
    expected = []
    for number, seeds in enumerate(taken):
        record_look(paths, A, look(*sorted(seeds), time=float(number)))
        if seeds - seen:
            expected.append((tuple(sorted(seeds)), float(number)))
        seen |= seeds
    assert [(one.seeds, one.time) for one in read_looks(paths, A)] == expected
    assert paths.looks.exists() == bool(expected)


def test_the_file_is_plain_json_with_the_looks_of_the_design_at_hand(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    record_look(paths, A, look(0, 1))
    record_look(paths, A, look(0, 1, 2, plan_hash=B, time=2.0))
    plain = json.loads(paths.looks.read_text())
    assert plain["format"] == 1
    assert plain["looks"] == [
        {"seeds": [0, 1], "plan_hash": A, "time": 1.0},
        {"seeds": [0, 1, 2], "plan_hash": B, "time": 2.0},
    ]
    record_look(paths, B, look(0))  # other families or another scale: another experiment, and back
    assert [one["seeds"] for one in json.loads(paths.looks.read_text())["looks"]] == [[0]]
    record_look(paths, A, look(2))
    assert [one["seeds"] for one in json.loads(paths.looks.read_text())["looks"]] == [[0, 1], [0, 1, 2]]
    assert [one.seeds for one in read_looks(paths, B)] == [(0,)]


def test_a_damaged_record_is_set_aside_and_said(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    record_look(paths, A, look(0))
    paths.looks.write_text(paths.looks.read_text().replace('"time": 1.0', '"time": 9.0'))
    with pytest.raises(RecordError, match=r"damaged-looks\.json"):
        record_look(paths, A, look(0, 1))
    assert (tmp_path / "damaged-looks.json").exists()
    record_look(paths, A, look(0, 1))
    assert [one.seeds for one in read_looks(paths, A)] == [(0, 1)]


def test_a_design_is_its_series_and_budgets_and_not_its_seeds() -> None:
    rows = [row(), row("moe"), row(seed=1)]
    assert design_hash(rows) == design_hash([row("moe", seed=5), row(seed=7)])
    assert design_hash(rows) != design_hash([row()])
    assert design_hash(rows) != design_hash([*rows, row(budget="large")])
    assert design_hash(rows) != design_hash([replace(one, tokens=96) for one in rows])


def statement(plan_hash: str, difference: float, time: float) -> Statement:
    stated = StatedRow(
        measure="loss_nats", subject="moe", baseline="dense", at="mean", smallest_difference=difference, unit="nats",
        noise_std=0.03, source="assumed", rests_on="a guess", num_seeds=2, degrees=4.0,
    )  # fmt: skip
    return Statement(plan_hash=plan_hash, time=time, rows=(stated,), missing=("recall: not known",))


def test_what_a_plan_stated_first_stays_whatever_is_launched_after_it(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    assert read_statement(paths) is None
    first, other = statement(A, 0.1, 1.0), statement(B, 0.05, 2.0)
    keep_statement(paths, first)
    keep_statement(paths, statement(A, 0.01, 3.0))  # launched again, with noise that is known better by now
    assert read_statement(paths) == first
    keep_statement(paths, other)
    assert read_statement(paths) == other
    plain = json.loads(paths.resolution.read_text())
    assert (plain["plan_hash"], plain["rows"][0]["smallest_difference"]) == (B, 0.05)
    assert [one["plan_hash"] for one in plain["earlier"]] == [A]
    keep_statement(paths, statement(A, 0.01, 4.0))
    assert read_statement(paths) == first
    assert [one["plan_hash"] for one in json.loads(paths.resolution.read_text())["earlier"]] == [B]


def test_a_damaged_statement_is_read_as_damaged_and_written_anew_at_the_next_launch(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    keep_statement(paths, statement(A, 0.1, 1.0))
    paths.resolution.write_text(paths.resolution.read_text().replace("0.1", "0.2"))
    with pytest.raises(RecordError, match=r"resolution\.json is not what memscale wrote"):
        read_statement(paths)
    with pytest.raises(RecordError, match=r"now damaged-resolution\.json"):
        check_statement(paths)
    check_statement(paths)  # there is none any more
    assert (tmp_path / "damaged-resolution.json").exists()
    keep_statement(paths, statement(A, 0.3, 2.0))
    assert read_statement(paths) == statement(A, 0.3, 2.0)
