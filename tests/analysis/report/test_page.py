"""The report as a reader and a machine meet it: the answer, nothing from outside, the same bytes every time."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_results import Row, Truth, rows, write

from analysis.__main__ import main
from analysis.card import text as card_text
from analysis.figures import sweep as sweep_figures
from analysis.report import build
from analysis.report.headline import headline, verdict
from analysis.report.page import page
from analysis.report.study_json import card
from analysis.sweep.study import Study, study
from analysis.tables.results import read_results


def studied(path: Path, table: list[Row]) -> Study:
    return study(read_results(write(path / "t.csv", table)))


def built(path: Path, table: list[Row], **options: object) -> tuple[str, dict[str, object]]:
    paths = build.build(write(path / "t.csv", table), path / "out", question="Which wins?", **options)
    return paths.report.read_text(), json.loads(paths.card.read_text())


def shown(path: Path, table: list[Row]) -> tuple[str, dict[str, object]]:
    """The page and the card, without writing the figures' files."""
    done = studied(path, table)
    text = page(done, sweep_figures.draw(done), question="Which wins?", sweep="s", rebuild=["make"], plan={})
    return text, json.loads(card_text(card(done, question="Which wins?", sweep="s")))


class Checker(HTMLParser):
    """Collects what the page would load, and checks that every tag is closed."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_opens_with_the_answer_and_loads_nothing(tmp_path: Path) -> None:
    html, content = built(tmp_path, rows(Truth(seeds=(0, 1, 2, 3))))
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert not checker.tags & {"script", "link", "iframe"}
    assert all(link.startswith("data:image/svg+xml;base64,") for link in checker.links)
    assert "url(" not in html
    answer = content["answer"]
    assert isinstance(answer, dict)
    assert answer["verdict"] == "better"
    words = re.sub("<[^>]*>", "", html[html.index("<main>") :]).replace("⁴", "4")
    assert words.index("Memory+ recalls more facts than MoE") < 400
    assert words.index("more facts than MoE") < words.index("Gains at equal")


@pytest.mark.slow
def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", rows(Truth()))
    for name in ("one", "two"):
        build.build(path, tmp_path / name)
    files = sorted(file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*") if file.is_file())
    assert len(files) == 7 * 3 + 2
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_the_data_beside_a_figure_are_the_runs(tmp_path: Path) -> None:
    table = rows(Truth())
    paths = build.build(write(tmp_path / "t.csv", table), tmp_path / "out")
    with open(paths.figures / "loss_vs_flops.csv", newline="") as file:
        drawn = {row["run"]: float(row["y"]) for row in csv.DictReader(file) if row["part"] == "run"}
    assert drawn == {row["name"]: row["loss_nats"] for row in table if row["stage"] == "compare"}


@pytest.mark.slow
def test_without_facts_there_is_no_recall_anywhere(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", rows(Truth()))
    build.build(path, tmp_path / "out")
    html, _ = built(tmp_path, rows(Truth(facts=False)))
    assert "recall" not in html.lower()
    assert not list((tmp_path / "out" / "figures").glob("recall*"))  # those of the earlier report are gone


def test_text_from_outside_is_escaped(tmp_path: Path) -> None:
    table = rows(Truth())
    evil = "<script>alert(1)</script>"
    for row in table:
        row["sweep"] = evil
        if row["family"] == "dense":
            row["family"] = "<b>&dense"
    table[-1]["name"] = evil
    html, _ = built(tmp_path, table, plan_summary={"launcher": evil, "dropped": [{"name": evil, "reason": "<i>"}]})
    assert "<script" not in html
    assert "<b>&dense" not in html
    assert "<i>" not in html


def test_one_seed_says_that_no_interval_can_be_given(tmp_path: Path) -> None:
    answer = headline(studied(tmp_path, rows(Truth(seeds=(0,), budgets=(3e13, 1e14)))))
    assert answer.verdict == "no interval"
    assert "no interval can be given" in answer.sentence
    html, content = shown(tmp_path, rows(Truth(seeds=(0,), tuning=False, budgets=(3e13, 1e14))))
    assert "One seed at each budget" in html
    comparisons = content["comparisons"]
    assert isinstance(comparisons, list)
    assert comparisons[0]["overall"]["ci95"] is None


def test_one_budget_compares_without_a_law(tmp_path: Path) -> None:
    html, content = shown(tmp_path, rows(Truth(budgets=(1e14,))))
    assert content["laws"] == {}
    assert "two budgets or more" in html
    assert "averaged over" not in headline(studied(tmp_path, rows(Truth(budgets=(1e14,))))).sentence


def test_one_family_is_said(tmp_path: Path) -> None:
    html, content = shown(tmp_path, rows(Truth(multipliers={"dense": 1.0})))
    assert "Nothing to compare" in html
    assert content["comparisons"] == []


def test_a_split_answer_is_said(tmp_path: Path) -> None:
    table = rows(Truth(noise=0.001, tuning=False))
    for row in table:
        if row["family"] == "memory_plus" and row["budget_flops"] == 3e14:
            row["loss_nats"] = float(str(row["loss_nats"])) * 1.04
    done = study(read_results(write(tmp_path / "t.csv", table)), measure="loss_nats")
    assert verdict(done.comparisons[0]) == "partly"
    assert "the answer is split" in headline(done).sentence
    assert "worse at the largest budget" in headline(done).sentence


def test_equal_families_are_called_not_distinguishable(tmp_path: Path) -> None:
    answer = headline(studied(tmp_path, rows(Truth(multipliers={"moe": 1.4, "memory_plus": 1.4}, noise=0.02), 1)))
    assert answer.verdict == "not distinguishable"
    assert "not distinguishable in recall of people" in answer.sentence


def test_the_opening_says_what_could_be_seen_and_what_it_would_take(tmp_path: Path) -> None:
    truth = Truth(multipliers={"dense": 1.0, "moe": 1.95, "memory_plus": 2.0}, facts=False, tuning=False)
    table = write(tmp_path / "results.csv", rows(truth))
    row = {"measure": "loss_nats", "at": "largest", "smallest_difference": 0.03, "unit": "nats", "noise_std": 0.01}
    row |= {"source": "assumed", "num_seeds": 2, "subject": "memory_plus", "baseline": "moe"}
    (tmp_path / "resolution.json").write_text(json.dumps({"format": 1, "rows": [row]}))
    (tmp_path / "looks.json").write_text(json.dumps({"format": 1, "looks": [{"seeds": [0]}, {"seeds": [0, 1]}]}))
    content = json.loads(build.build(table, tmp_path / "out").card.read_text())
    assert content["answer"]["verdict"] == "not distinguishable"
    could, take, dense = content["answer"]["resolution"]
    assert "could see 0.030 nats by the plan (assumed noise)" in could
    assert "with 80 % power; saw" in could
    assert "for the 0.030 nats that the plan stated" in take
    assert "these runs can see" in dense
    assert content["looks"] == [1, 2]
    assert content["level"] > 0.98
    page = (tmp_path / "out" / "report.html").read_text()
    assert "reading 2 of this sweep (1, 2 seeds)" in page
    plain = json.loads(build.build(table, tmp_path / "out", sweep_dir=tmp_path / "out").card.read_text())
    wider, narrower = (one["comparisons"][0]["overall"]["ci95"] for one in (content, plain))
    assert wider[1] - wider[0] > 1.3 * (narrower[1] - narrower[0])


def test_gains_in_time_stand_in_the_opening_with_their_own_noise_only(tmp_path: Path) -> None:
    def said(seconds: float) -> list[str]:
        table = rows(Truth(multipliers={"dense": 1.0, "memory_plus": 3.0}, facts=False, tuning=False, noise=0.002))
        for row in table:
            row["train_seconds"] = float(str(row["train_seconds"])) * (1 + seconds * (2 * int(str(row["seed"])) - 1))
        return [one for one in headline(studied(tmp_path, table)).details if "training time" in one]

    assert len(said(0.0)) == 1
    assert said(0.6) == []


def test_a_family_against_itself_is_a_comparison_of_its_names(tmp_path: Path) -> None:
    table = rows(Truth(multipliers={"dense": 1.0, "moe": 1.0}, tuning=False))
    for row in table:
        row |= {"series": {"dense": "dense", "moe": "dense_again"}[str(row["family"])], "family": "dense"}
    done = studied(tmp_path, table)
    assert (done.focus, done.pairs, done.ablations) == ("families", (("dense_again", "dense"),), ())
    assert headline(done).verdict == "not distinguishable"


def test_failures_edges_and_gaps_are_reported(tmp_path: Path) -> None:
    table = rows(Truth())
    table[-1] |= {"status": "diverged", "loss_nats": ""}
    for row in table:
        if row["stage"] == "compare" and row["family"] == "dense":
            row["learning_rate"] = 0.03
        if row["stage"] == "compare" and row["family"] == "moe":
            row["params_total"] = int(str(row["params_total"])) * 2
    done = studied(tmp_path, table)
    tuned = {one.family: one for one in done.learning_rates}
    assert tuned["dense"].edges == ("learning rate at the highest tried",)
    assert "not the rate with the lowest" in tuned["dense"].note
    assert tuned["moe"].edges == ()  # the rate above it diverged: the best lies inside
    assert tuned["memory_plus"].edges == ("table rate at the highest tried",)
    html, _ = shown(tmp_path, table)
    assert "total parameters differ by" in html
    assert "memory_plus-3e+14-s1" in html
    assert "it has no final loss" in html


def test_the_commands_answer_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "t.csv", rows(Truth())))
    assert main(["fit", path, "--json"]) == 0
    fit = json.loads(capsys.readouterr().out)
    assert fit["law"] == "power"
    assert fit["families"]["dense"]["coefficients"]["alpha"]["value"] == pytest.approx(0.08, abs=0.01)
    assert main(["gain", path, "--of", "moe", "--over", "dense", "--json"]) == 0
    gain = json.loads(capsys.readouterr().out)
    assert {(one["subject"], one["baseline"]) for one in gain["comparisons"]} == {("moe", "dense")}
    assert main(["report", path, "--out", str(tmp_path / "out"), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert all(Path(file).exists() for file in written["figures"])
    for command in (["fit", path], ["gain", path]):
        assert main(command) == 0


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["report", "absent.csv", "--out", "out"], "does not exist"),
        (["gain", "TABLE", "--of", "peer"], "no done run of the family or series 'peer'"),
        (["gain", "TABLE", "--over", "peer"], "no done run of the family or series 'peer'"),
        (["report", "TABLE", "--out", "TABLE"], "cannot be written"),
    ],
)
def test_mistakes_end_with_a_sentence_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    path = str(write(tmp_path / "t.csv", rows(Truth())))
    assert main([path if word == "TABLE" else word for word in arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_neither_torch_nor_memscale_nor_matplotlib_is_imported() -> None:
    heavy = {"torch", "memscale", "mlflow", "matplotlib"}
    code = f"import sys, analysis.report, analysis.__main__; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
