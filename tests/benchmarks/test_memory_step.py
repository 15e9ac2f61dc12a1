"""The benchmarks of the memory layer at a tiny size: what they compare does the same, and what they write is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from benchmarks import memory_step, memory_step_figure, peers, topk
from memscale.records.atomic import read_json, write_json

FIELDS = {
    "slots": int, "width": int, "tokens": int, "indices": str, "backend": str, "reads": int, "touched_rows": int,
    "forward_s": float, "backward_s": float, "optimizer_s": float, "step_s": float, "spread": list, "floor_s": float,
    "lazy_floor_s": float, "peak_new_bytes": int,
}  # fmt: skip
INSTALLED = [name for name in peers.STEPS if peers.missing(name) is None]


def tiny(indices: str = "uniform", **changes: int) -> memory_step.Case:
    return memory_step.Case(
        **{"slots": 400, "width": 16, "tokens": 20, "reads_per_token": 8, **changes}, indices=indices
    )


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_all_backends_compute_the_same_sums_and_gradients_of_weights() -> None:
    case = tiny()
    expected = None
    for name in INSTALLED:
        step, batch = peers.STEPS[name](memory_step.new_table(case)), next(iter(memory_step.Batches(case)))
        sums_TV = step.forward(batch.slots_TK, batch.weights_TK)
        sums_TV.backward(batch.gradient_TV)
        found = (sums_TV.detach(), batch.weights_TK.grad)
        expected = expected or found
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("indices", ["uniform", "zipf"])
def test_ours_takes_the_steps_of_dense_adamw(indices: str) -> None:
    case = tiny(indices)
    tables = []
    for name in ("torch_dense", "torch_dense_fused", "ours"):
        step = peers.STEPS[name](memory_step.new_table(case))
        for batch in islice(memory_step.Batches(case), 12):
            peers.take(step, batch)
        tables.append(step.table())
    moved = (tables[0] - memory_step.new_table(case)).abs().max()
    assert moved > 5 * peers.RATE  # else closeness would say little
    for table in tables[1:]:
        torch.testing.assert_close(table, tables[0], rtol=0, atol=2e-3 * float(moved))


@pytest.mark.parametrize("name", [name for name in INSTALLED if name not in ("torch_dense", "torch_dense_fused")])
def test_only_rows_that_are_read_move_in_a_first_step(name: str) -> None:
    case = tiny()
    before, batch = memory_step.new_table(case), next(iter(memory_step.Batches(case)))
    step = peers.STEPS[name](before.clone())
    peers.take(step, batch)
    decay = 1 - peers.RATE * peers.WEIGHT_DECAY if name == "ours" else 1.0
    moved = ~torch.isclose(step.table(), decay * before, rtol=1e-6, atol=0).all(dim=1)
    assert moved.nonzero().flatten().tolist() == batch.slots_TK.unique().tolist()


def test_batches_begin_anew_and_zipf_reads_fewer_rows() -> None:
    for case in (tiny(), tiny("zipf")):
        batches = memory_step.Batches(case)
        first, second = islice(batches, 2)
        assert not torch.equal(first.slots_TK, second.slots_TK)
        assert torch.equal(first.slots_TK, next(iter(batches)).slots_TK)
        assert 0 <= first.slots_TK.min() <= first.slots_TK.max() < case.slots
    touched = [memory_step.touched_rows(memory_step.Batches(case)) for case in (tiny(), tiny("zipf"))]
    assert touched[1] < touched[0]


def test_rows_have_the_schema_and_a_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = memory_step.copy_bytes_per_second(1 << 20, 3)
    monkeypatch.setattr(memory_step, "copy_bytes_per_second", lambda: copied)
    cases = [tiny(width=256), tiny(width=256, slots=800), tiny("zipf")]
    write_json(tmp_path / "steps.json", json.loads(json.dumps(memory_step.measure(cases, rounds=3))), format=1)
    done = read_json(tmp_path / "steps.json", format=1)
    assert done.keys() == {"format", "machine", "versions", "copy_bytes_per_s", "rows"}
    assert [row["backend"] for row in done["rows"]] == INSTALLED * len(cases)
    for row in done["rows"]:
        assert {key: type(value) for key, value in row.items()} == FIELDS
        low, high = row["spread"]
        assert low <= row["step_s"] <= high
        assert row["touched_rows"] <= min(row["reads"], row["slots"])
        assert row["floor_s"] == pytest.approx(8 * row["touched_rows"] * row["width"] * 4 / copied)
        assert row["lazy_floor_s"] == pytest.approx(1.5 * row["floor_s"])
    memory_step_figure.write(done, tmp_path / "steps.png")
    assert (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")


def test_a_dense_gradient_is_new_memory_of_the_tables_size_and_ours_is_not() -> None:
    case = tiny(slots=40_000, width=64)
    peaks = {}
    for name in ("torch_dense", "ours"):
        step, draws = peers.STEPS[name](memory_step.new_table(case)), iter(memory_step.Batches(case))
        for _ in range(3):
            peers.take(step, next(draws))
        peaks[name] = peers.peak_new_bytes(step, next(draws))
    assert peaks["torch_dense"] >= case.table_bytes
    assert peaks["ours"] < case.table_bytes / 10


def test_a_table_that_does_not_fit_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory_step, "available_bytes", lambda: 1 << 20)
    assert memory_step.measure_case(tiny(), 1e9, 3) == []
    assert "ours is left out at 400 slots of width 16: it needs" in capsys.readouterr().out


def test_selections_agree_and_have_the_schema() -> None:
    case = topk.Case(num_keys=24, knn=5, tokens=30, heads=2, half_width=8)
    rows = topk.measure_case(case, rounds=3)
    assert [row["backend"] for row in rows] == ["ours", "grid"]
    keys = {"num_keys", "knn", "heads", "tokens", "key_width", "backend", "forward_s", "backward_s", "step_s", "spread"}
    assert all(row.keys() == keys | {"matmul_s"} and row["key_width"] == 16 for row in rows)
    gradients = []
    for selected in topk.BACKENDS.values():
        batch = next(topk.batches(case))
        topk.take(selected, batch, case.knn)
        gradients.append((batch.query_T2HW.grad, batch.keys_2HNW.grad))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)
