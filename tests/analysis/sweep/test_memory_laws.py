"""Laws of tables and experts on tables of the design: the law that made a table ranks first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from law_design import SLOTS, TRUTHS, WIDTHS, Design, rows
from synthetic_results import Settings, settings_rows, write

from analysis.cli.main import main
from analysis.errors import FitError
from analysis.fitting import law_ranking
from analysis.fitting.splits import folds, largest
from analysis.sweep.law_inputs import BASE, INSIDE, LawRuns, Target, law_runs, targets
from analysis.sweep.memory_laws import LawTable, law_table
from analysis.tables.results import read_results


@pytest.fixture(autouse=True)
def _fewer_refits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of coefficients are rougher for it, and their tests a quarter as long."""
    monkeypatch.setattr(law_ranking, "NUM_REFITS", 80)


def inputs(path: Path, design: Design) -> tuple[LawRuns, dict[str, Target]]:
    runs = law_runs(read_results(write(path / "t.csv", rows(design))), design.family)
    return runs, {target.key: target for target in targets(runs)}


def ranked(path: Path, design: Design, key: str, *names: str) -> LawTable:
    runs, by_key = inputs(path, design)
    return law_table(runs, by_key[key], names=names)


def test_runs_have_the_counts_that_laws_read(tmp_path: Path) -> None:
    runs, by_key = inputs(tmp_path, Design())
    assert len(runs.base) == len(WIDTHS) * 3 * 2 * (1 + len(SLOTS))
    assert sorted(set(runs.base.tolist())) == [48.0 * width**2 for width in WIDTHS]
    assert len(np.unique(runs.group)) == 3 * 3 * 2
    assert list(by_key) == ["loss", "nll", "bits"]
    plain, per_bit = runs.columns(by_key["loss"])
    assert not per_bit
    assert set(plain) == {"N", "D", "T", "K", "B"}
    assert (plain["T"] == 64 * plain["K"]).all()
    counted, per_bit = runs.columns(by_key["nll"])
    assert per_bit
    assert counted["N"] == pytest.approx(plain["N"] / plain["B"])
    assert by_key["bits"].entropy == pytest.approx(np.log(256))
    same, by_key = inputs(tmp_path, Design(bits_per_parameter=(1.0, 1.0, 1.0)))
    assert not same.columns(by_key["nll"])[1], "B is a multiple of N there, and N per bit one number"


def test_experts_are_counted_from_columns_or_from_the_series(tmp_path: Path) -> None:
    design = Design(
        loss="experts_log_linear", stored="stored_experts_additive", tokens_per_parameter=(10.0,), seeds=(0,)
    )
    runs, _ = inputs(tmp_path, design)
    assert sorted(set(runs.size.tolist())) == [1.0, 2, 4, 8, 16, 32, 64, 128]
    table = [{key: value for key, value in row.items() if key != "num_experts"} for row in rows(design)]
    again = law_runs(read_results(write(tmp_path / "s.csv", table)), "moe")
    assert again.size.tolist() == runs.size.tolist()


@pytest.mark.parametrize(
    ("design", "key", "names"),
    [
        (Design(), "loss", ("chinchilla", "memory_log_linear")),
        (Design(stored="stored_memory_log_linear"), "bits", ("stored_memory_effective", "stored_memory_log_linear")),
        (Design(loss="experts_effective", stored="stored_experts_additive"), "loss",
         ("experts_log_linear", "experts_effective")),
    ],
)  # fmt: skip
def test_the_law_that_made_the_table_predicts_best(
    tmp_path: Path, design: Design, key: str, names: tuple[str, ...]
) -> None:
    truth = design.stored if key == "bits" else design.loss
    found = ranked(tmp_path, design, key, *names)
    first, others = found.first, found.laws[1:]
    assert first.law.name == truth
    noise = 2 * np.hypot(design.noise, design.shared) if key == "bits" else np.hypot(design.noise, design.shared)
    assert found.noise == pytest.approx(noise, rel=0.35)
    assert first.score == pytest.approx(found.noise, rel=0.5)
    assert first.fit is not None
    inside = [TRUTHS[truth][one.name] for one in first.fit.coefficients if one.name in TRUTHS[truth] and one.identified
              and one.ci95.lower <= TRUTHS[truth][one.name] <= one.ci95.upper]  # fmt: skip
    assert len(inside) >= len([one for one in first.fit.coefficients if one.identified]) - 1
    for one in others:
        assert one.over_first > 1
        assert one.over_first_ci95 is not None
        assert one.over_first_ci95.lower <= one.over_first <= one.over_first_ci95.upper
    assert others[-1].over_first_ci95 is not None
    assert others[-1].over_first_ci95.lower > 1
    assert others[-1] not in found.tied


def test_dense_runs_stay_in_every_extrapolation_and_two_sizes_at_least(tmp_path: Path) -> None:
    runs, _ = inputs(tmp_path, Design())
    tables = largest(runs.size, runs.sparse, "t", most=3)
    assert [round(np.log2(split.limit)) for split in tables] == [18, 17, 15]
    assert {int(runs.size[split.rows].min()) for split in tables} == {SLOTS[-1], SLOTS[-2], SLOTS[-3]}
    (base,) = largest(runs.base, runs.sparse, "b", most=2)
    assert runs.sparse[base.rows].all()
    assert set(runs.base[base.rows].tolist()) == {48.0 * WIDTHS[-1] ** 2}
    every = np.concatenate([split.rows for split in folds(runs.setting, "f")])
    assert sorted(every.tolist()) == list(range(len(runs.base)))


def test_tables_that_carry_no_law_are_refused_by_what_they_lack(tmp_path: Path) -> None:
    one_base = read_results(write(tmp_path / "a.csv", settings_rows(Settings(slots=(2**10, 2**12, 2**14, 2**16)))))
    with pytest.raises(FitError, match="neither dense_params_non_embedding nor params_non_embedding"):
        law_runs(one_base, "memory_plus")
    table = rows(Design(tokens_per_parameter=(10.0,), seeds=(0,)))
    few = [row for row in table if row["d_model"] == WIDTHS[0]]
    with pytest.raises(FitError, match=r"Memory[+]: 1 bases are too few for a law of them; 3 are needed"):
        law_runs(read_results(write(tmp_path / "b.csv", few)), "memory_plus")
    sparse = [row for row in table if row["family"] != "dense"]
    with pytest.raises(FitError, match="read against dense runs, and the table has none"):
        law_runs(read_results(write(tmp_path / "c.csv", sparse)), "memory_plus")
    path = write(tmp_path / "d.csv", few)
    assert main(["laws", str(path)]) == 2


def test_the_command_prints_writes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    design = Design(tokens_per_parameter=(10.0, 40.0), seeds=(0,))
    table = [{key: value for key, value in row.items() if key not in ("bits_stored", "bits_offered",
              "score_dense_facts_nats")} for row in rows(design)]  # fmt: skip
    path, card = write(tmp_path / "t.csv", table), tmp_path / "o.json"
    assert main(["laws", str(path), "--json", str(card), "--figures", str(tmp_path / "figures")]) == 0
    said = capsys.readouterr().out
    assert "Memory+, loss: root mean square errors in nats per token of 48 runs (noise of a run not known)" in said
    (one,) = json.loads(card.read_text())["tables"]
    assert one["laws"][0]["law"] in said
    assert {law["law"] for law in one["laws"]} == {
        "chinchilla", "memory_effective", "memory_additive", "memory_log_linear",
    }  # fmt: skip
    assert set(one["laws"][0]["held_out"]) == {"larger tables", BASE, INSIDE}
    assert (tmp_path / "figures" / "memory_plus-loss.png").is_file()
