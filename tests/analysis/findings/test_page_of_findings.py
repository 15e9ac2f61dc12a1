"""The page of findings: what the tables give, from small tables of known truth; the page of this repository."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_results import Row, Settings, Truth, rows, settings_rows, write

from analysis.__main__ import main
from analysis.errors import TableError
from analysis.findings import build
from analysis.findings.finding import NOT_RUN
from analysis.findings.gather import gather
from analysis.findings.registry import FINDINGS
from analysis.findings.words import share_interval

BY_KEY = {finding.key: finding for finding in FINDINGS}


def section(text: str, key: str) -> str:
    """The section of one finding."""
    _, _, rest = text.partition(f"## {BY_KEY[key].title}\n")
    return rest.partition("\n## ")[0]


def test_without_tables_the_page_has_every_question_and_rule_and_no_answer(tmp_path: Path) -> None:
    found = build.findings(tmp_path)
    assert found.absent == tuple(BY_KEY)
    for finding in FINDINGS:
        shown = section(found.text, finding.key)
        assert finding.question in shown
        assert finding.rule in shown
        assert NOT_RUN in shown


def test_every_sweep_that_the_page_names_is_there() -> None:
    named = {finding.sweep for finding in FINDINGS if not finding.table_from}
    assert named <= {path.stem for path in (Path(__file__).parents[3] / "sweeps").glob("*.yaml")}


def test_the_repeats_of_a_sweep_are_counted_and_what_was_not_resolved_stays(tmp_path: Path) -> None:
    folder = tmp_path / build.TABLES
    folder.mkdir()
    for at in range(4):
        # In the last repeat memory is worth what dense is, and noise hides the rest.
        truth = Truth(noise=0.002 if at < 3 else 0.05, multipliers={"dense": 1.0, "moe": 1.4, "memory_plus": 2.0})
        table = [row | {"seed": int(str(row["seed"])) + 10 * at} for row in rows(truth, at)]
        write(folder / f"memory_vs_moe-{at + 1:02d}.csv", table)
    stated = {"measure": "score_facts_recall_acc", "subject": "memory_plus", "baseline": "dense", "at": "largest",
              "smallest_difference": 1e3, "unit": "points", "noise_std": 1.0, "source": "measured"}  # fmt: skip
    (folder / "memory_vs_moe-01.resolution.json").write_text(json.dumps({"format": 1, "rows": [stated]}))
    found = build.findings(tmp_path, only=("memory_vs_moe",))
    shown = section(found.text, "memory_vs_moe")
    assert "Memory+ against Dense, by the rule: better in" in shown
    assert "reached within 25 % in 1 of 1 (100 %" in shown
    assert shown.count("| memory_vs_moe-0") == 8
    assert "[memory_vs_moe-03.csv](findings/memory_vs_moe-03.csv)" in shown
    assert "30, 31" in shown


def test_a_model_against_itself_is_called_different_as_often_as_it_should(tmp_path: Path) -> None:
    folder = tmp_path / build.TABLES
    folder.mkdir()
    for at in range(20):
        random = np.random.default_rng(at)
        table = rows(Truth(multipliers={"dense": 1.0}, seeds=(0, 1, 2), facts=False, tuning=False), at)
        table += [
            row | {"series": "twin", "name": f"twin-{row['name']}", "run_id": f"x{row['run_id']}",
                   "seed": int(str(row["seed"])) + 100,
                   "loss_nats": float(str(row["loss_nats"])) * float(np.exp(0.005 * random.standard_normal()))}
            for row in table
        ]  # fmt: skip
        write(folder / f"null-{at + 1:02d}.csv", [{"series": "dense", **row} for row in table])
    shown = section(build.findings(tmp_path, only=("null",)).text, "null")
    assert "No pairs are resampled: series 'dense' has 3 seeds" in shown
    counted = shown.partition("called in ")[2]
    number, of = int(counted.split()[0]), int(counted.split()[2])
    assert of == 20 * 3  # three measures: the loss and its two sources
    assert share_interval(number, of).lower < 0.15


def test_crossings_and_levels_of_table_sizes_are_in_the_page(tmp_path: Path) -> None:
    folder = tmp_path / build.TABLES
    folder.mkdir()
    table = settings_rows(Settings(slots=tuple(2**power for power in (10, 13, 16, 20)), noise=1e-3, facts=False))
    half = [row | {"budget": "x2", "budget_flops": 2e14, "flops_train": 2e14, "run_id": f"x2{row['seed']}",
                   "loss_nats": 1.0, "name": f"x2-{row['seed']}"}
            for row in table if row["series"] == "dense"]  # fmt: skip
    write(folder / "memory_scaling.csv", table + half)
    found = build.findings(tmp_path, only=("memory_scaling",))
    shown = section(found.text, "memory_scaling")
    assert "From 2¹⁰ to 2²⁰ slots, Memory+'s loss changes by" in shown
    assert "crossed at 2^1" in shown
    assert "Memory+ does not reach Dense, 2\N{MULTIPLICATION SIGN} compute in loss" in shown
    assert list(found.figures) == ["findings/memory_scaling-loss_vs_slots.png"]


def knowledge_rows() -> list[Row]:
    """A dense model that holds 2 bits a parameter at most, and experts that are never full."""
    made: list[Row] = []
    cells = [(family, offered) for family in ("dense", "moe") for offered in (0.5, 1.0, 2.0, 4.0, 8.0)]
    for family, offered in cells:
        for seed in (0, 1, 2):
            stored = (2.0 * (1 - np.exp(-offered / 2.0)) if family == "dense" else 0.5 * offered) + 0.01 * (seed - 1)
            made.append(
                {"stage": "compare", "family": family, "status": "done", "seed": seed, "budget": f"bits{offered}",
                 "budget_flops": 1e12, "flops_train": 1e12, "loss_nats": 3.0 - stored / 10,
                 "bits_offered_per_parameter": offered, "bits_stored_per_parameter": stored}
            )  # fmt: skip
    return made


def test_what_a_family_holds_and_whether_it_is_full(tmp_path: Path) -> None:
    folder = tmp_path / build.TABLES
    folder.mkdir()
    write(folder / "knowledge.csv", knowledge_rows())
    shown = section(build.findings(tmp_path, only=("knowledge",)).text, "knowledge")
    assert "Dense saturates at 2.0" in shown
    assert "- MoE: no saturation" in shown
    assert "| Dense | 8.00 | 1.96" in shown
    assert "2 after 1,000 exposures, 1 after 100 exposures" in shown


def test_forecasts_are_held_against_what_was_measured(tmp_path: Path) -> None:
    folder = tmp_path / build.TABLES
    folder.mkdir()
    head = "sweep,machine,forecast_seconds,measured_seconds\n"
    (folder / "forecast.csv").write_text(head + "a,two cores,600,660\nb,two cores,600,900\n")
    shown = section(build.findings(tmp_path, only=("forecast",)).text, "forecast")
    assert "in 1 of 2" in shown
    assert "| a | two cores | 10.0 min | 11.0 min | +10 % |" in shown
    assert "- b on two cores took +50 % against its forecast." in shown
    (folder / "forecast.csv").write_text("sweep,machine\na,b\n")
    shown = section(build.findings(tmp_path, only=("forecast",)).text, "forecast")
    assert "None: the tables cannot carry it" in shown
    assert "no column forecast_seconds" in shown


def test_the_page_is_written_checked_and_its_old_figures_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / build.TABLES
    folder.mkdir()
    (folder / "old.png").write_bytes(b"")
    write(folder / "knowledge.csv", knowledge_rows())
    assert main(["findings", "--docs", str(tmp_path)]) == 0
    assert not (folder / "old.png").exists()
    assert main(["findings", "--docs", str(tmp_path), "--check"]) == 0
    write(folder / "knowledge.csv", knowledge_rows()[:15])
    assert main(["findings", "--docs", str(tmp_path), "--check"]) == 2
    assert "is not what the tables" in capsys.readouterr().err


def test_results_are_gathered_by_repeat_with_the_columns_that_analysis_reads(tmp_path: Path) -> None:
    folder, truth = tmp_path / "tables", Truth()
    for at in range(2):
        sweep = tmp_path / f"runs{at}" / "memory_vs_moe"
        sweep.mkdir(parents=True)
        write(sweep / "results.csv", [row | {"usage_x": 1, "host": "n1"} for row in rows(truth, at)])
        (sweep / "resolution.json").write_text("{}")
    sources = [tmp_path / "runs0", tmp_path / "runs1"]
    names = [path.name for path in gather(sources, BY_KEY, folder)]
    assert names == ["memory_vs_moe-01.csv", "memory_vs_moe-01.resolution.json", "memory_vs_moe-02.csv",
                     "memory_vs_moe-02.resolution.json"]  # fmt: skip
    head = (folder / "memory_vs_moe-02.csv").read_text().splitlines()[0].split(",")
    assert {"family", "seed", "loss_nats", "score_facts_recall_acc"} <= set(head)
    assert not {"usage_x", "host", "run_id"} & set(head)
    gather(sources[:1], BY_KEY, folder)
    assert not (folder / "memory_vs_moe-02.csv").exists()
    unfinished = [row | {"status": "running"} for row in rows(truth, 0)]
    write(sources[0] / "memory_vs_moe" / "results.csv", unfinished)
    with pytest.raises(TableError, match="gather a sweep that is finished"):
        gather(sources[:1], BY_KEY, folder)
    with pytest.raises(TableError, match="is no folder of runs"):
        gather([tmp_path / "none"], BY_KEY, folder)


@pytest.mark.slow
def test_the_page_of_this_repository_is_what_its_tables_give() -> None:
    docs = Path(__file__).parents[3] / "docs"
    build.check(build.findings(docs), docs)
