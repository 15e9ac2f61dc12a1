"""The benchmark of the memory step on a GPU, at a tiny size: its code on the CPU, and on a GPU where there is one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks import memory_step_figure, memory_step_gpu
from benchmarks.memory_step_case import Case

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
on_each_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])


def tiny(device: str, **changes: Any) -> Case:
    sizes = {"slots": 400, "width": 16, "tokens": 20, "reads_per_token": 8}
    return Case(**{**sizes, "device": device, "backends": memory_step_gpu.BACKENDS, **changes})


@on_each_device
@pytest.mark.parametrize("dtype", memory_step_gpu.TYPES)
@pytest.mark.parametrize("indices", ["uniform", "zipf"])
def test_rows_say_what_was_measured(device: str, dtype: torch.dtype, indices: str) -> None:
    rows = memory_step_gpu.measure_case(tiny(device, dtype=dtype, indices=indices), 1e9, rounds=3)
    assert [row["backend"] for row in rows] == list(memory_step_gpu.BACKENDS)
    for row in rows:
        low, high = row["spread"]
        assert 0 < low <= row["step_s"] <= high
        assert 0 < max(row["forward_s"], row["backward_s"], row["optimizer_s"]) < high
        assert row["weights_gradient"] or (row["backend"] != "ours" and dtype == torch.bfloat16)
        moments, weights = 4 * 4, 4 * dtype.itemsize
        assert row["floor_s"] == pytest.approx((moments + weights) * row["touched_rows"] * 16 / 1e9)
        assert row["lazy_floor_s"] == pytest.approx(1.5 * row["floor_s"])
        assert (row["lookup_s"] is not None) == (row["backend"] in ("ours", "torch_dense"))
        if row["lookup_s"] is not None:
            assert row["lookup_share"] == pytest.approx(row["reads"] * 16 * dtype.itemsize / row["lookup_s"] / 1e9)
    assert len(list(memory_step_gpu.lines(rows))) == 1 + len(rows)


def test_a_library_that_fails_or_does_not_fit_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no kernel for this\nand more")

    monkeypatch.setattr(memory_step_gpu, "measure_backend", fail)
    case = tiny("cpu", backends=("ours",))
    assert memory_step_gpu.measure_case(case, 1e9) == []
    assert capsys.readouterr().out == "ours is left out: no kernel for this\n"
    monkeypatch.setattr(memory_step_gpu, "free_bytes", lambda _: 1 << 20)
    assert memory_step_gpu.measure_case(case, 1e9) == []
    assert "ours is left out: it needs 1 GiB" in capsys.readouterr().out


def test_a_figure_is_of_one_type_and_batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    rows = []
    for dtype in memory_step_gpu.TYPES:
        for slots in (400, 800):
            rows += memory_step_gpu.measure_case(tiny("cpu", dtype=dtype, slots=slots), 1e9, rounds=3)
    drawn = []
    monkeypatch.setattr(memory_step_figure, "_line", _seen(memory_step_figure._line, drawn))
    memory_step_figure.write({"rows": rows}, tmp_path / "steps.png", width=16)
    assert {row["dtype"] for row in drawn} == {"bfloat16"}
    with pytest.raises(ValueError, match="no row has width 256"):
        memory_step_figure.write({"rows": rows}, tmp_path / "steps.png")


def _seen(draw: Any, drawn: list[dict[str, Any]]) -> Any:
    def draw_and_keep(axes: Any, rows: list[dict[str, Any]], name: str) -> Any:
        drawn.extend(rows)
        return draw(axes, rows, name)

    return draw_and_keep


@needs_gpu
def test_a_copy_is_timed() -> None:
    assert memory_step_gpu.copy_bytes_per_second("cuda", 1 << 20) > 0
