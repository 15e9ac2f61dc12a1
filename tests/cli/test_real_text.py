"""The shipped sweep on the user's own text, end to end at a small budget: `SET="data=text_files data.files=..."`."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from tests.sweeps import NAME, ROOT, memscale, small_sweep

TEXT = Path(os.environ.get("MEMSCALE_DATA_DIR") or ROOT.parent / "shared" / "data") / "text"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not TEXT.is_dir(), reason=f"no real text at {TEXT}")]


def test_the_sweep_answers_on_real_text(tmp_path: Path) -> None:
    sweep = small_sweep(f"{TEXT}/*.txt", flops="[3e9,6e9]")
    done = memscale("sweep", NAME, *sweep, runs=tmp_path)
    assert "all 15 runs done" in done.stdout
    folder = tmp_path / NAME
    with open(folder / "results.csv", newline="") as rows:
        table = list(csv.DictReader(rows))
    assert len(table) == 15
    assert {row["status"] for row in table} == {"done"}
    compared = [row for row in table if row["stage"] == "compare"]
    assert all(3.0 < float(row["loss_nats"]) < 5.7 for row in compared)  # below log 300, the loss of knowing nothing
    assert all(float(row["score_bits_per_byte_text_bits_per_byte"]) < 6 for row in compared)
    assert not any("recall" in name for name in table[0])
    report = (folder / "report.html").read_text()
    assert "MoE" in report
    assert "recall" not in report.split("<figure")[0].lower()
    assert list((folder / "figures").glob("*.png"))
    again = memscale("sweep", NAME, *sweep, runs=tmp_path)
    assert "already   15 done, 0 to run" in again.stdout
    for row in json.loads(memscale("plan", NAME, *sweep, "--json", runs=tmp_path).stdout)["runs"]:
        built = json.loads((folder / f"{row['name']}-{row['run_id']}" / "result.json").read_text())["achieved"]
        assert (built["params_total"], built["params_table"]) == (row["params_total"], row["params_table"])
        assert abs(row["flops_mismatch"]) <= 0.01
