"""Series, budgets and their replicates: settings of one family and model sizes at equal FLOPs are never averaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_results import Row, Settings, settings_rows, write

from analysis import formatting
from analysis.__main__ import main
from analysis.card import text as card_text
from analysis.errors import TableError
from analysis.figures import sweep as sweep_figures
from analysis.gains.measures import Measure, measures
from analysis.report.headline import headline
from analysis.report.study_json import card
from analysis.sweep.study import Study, study
from analysis.sweep.table_size import table_sizes
from analysis.tables.results import read_results
from analysis.tables.runs import Runs

LOSS = Measure(column="loss_nats", words="loss", unit="nats per token")
SIZES = tuple(2**power for power in (12, 14, 16, 18))
WIDTHS = (48, 64, 96, 128, 192)
ABLATIONS = {"gated=false": 0.02, "key_width=16": 0.0, "layers=1-2-3": -0.02}


def runs(path: Path, sweep: Settings, seed: int = 0) -> Runs:
    return read_results(write(path / f"{seed}.csv", settings_rows(sweep, seed))).compare


def studied(path: Path, table: list[Row]) -> Study:
    return study(read_results(write(path / "t.csv", table)))


def values(table: list[Row], column: str, **chosen: object) -> np.ndarray:
    return np.array([row[column] for row in table if all(row[key] == value for key, value in chosen.items())])


def test_two_settings_of_one_family_are_two_series(tmp_path: Path) -> None:
    table = settings_rows(Settings(slots=SIZES))
    found = read_results(write(tmp_path / "t.csv", table)).compare
    assert found.families == ("dense", "memory_plus")
    assert len(found.labels) == 1 + len(SIZES)
    assert {int(found.of(*cell).sum()) for cell in found.cells()} == {2}
    plain = [{key: value for key, value in row.items() if key != "series"} for row in table]
    with pytest.raises(TableError, match="same series, budget and seed"):
        read_results(write(tmp_path / "plain.csv", plain))


def test_model_sizes_at_equal_flops_are_two_budgets(tmp_path: Path) -> None:
    table = settings_rows(Settings(families=("dense",), widths=WIDTHS))
    found = read_results(write(tmp_path / "t.csv", table)).compare
    assert len(found.budgets("dense")) == len(WIDTHS)
    assert found.flops_budgets("dense") == (1e14,)
    assert [budget.name for budget in found.budgets()] == [f"1e+14-d{width}" for width in WIDTHS]
    plain = [{key: value for key, value in row.items() if key != "budget"} for row in table]
    with pytest.raises(TableError, match="same series, budget and seed"):
        read_results(write(tmp_path / "plain.csv", plain))


def test_the_noise_is_that_of_seeds_and_not_of_sizes_or_settings(tmp_path: Path) -> None:
    sweep = Settings(slots=SIZES, widths=WIDTHS, noise=0.001, seeds=(0, 1, 2))
    table = settings_rows(sweep)
    done = studied(tmp_path, table)
    noise = done.comparisons[0].noise
    assert noise is not None
    cells = [
        values(table, "loss_nats", series=series, budget=budget)
        for series in {row["series"] for row in table}
        for budget in {row["budget"] for row in table}
    ]
    assert noise.degrees == 2 * len(cells)
    assert noise.std == pytest.approx(np.sqrt(np.mean([cell.var(ddof=1) for cell in cells])))


def test_differences_compare_each_model_size_with_its_own(tmp_path: Path) -> None:
    sweep = Settings(families=("dense", "memory_plus"), budgets=(1e14, 4e14), widths=WIDTHS)
    table = [row for row in settings_rows(sweep) if row["series"] == "dense" or row["d_model"] != WIDTHS[0]]
    # Seeds of their own: nothing is shared by the runs of several sizes.
    table = [row | {"seed": index} for index, row in enumerate(table)]
    found = studied(tmp_path, table).comparison("memory_plus", "dense", "loss_nats")
    assert found is not None
    assert [one.budget_flops for one in found.at_budgets] == [1e14, 4e14]
    for one in found.at_budgets:
        each = [
            values(table, "loss_nats", series="memory_plus", budget_flops=one.budget_flops, d_model=width).mean()
            - values(table, "loss_nats", series="dense", budget_flops=one.budget_flops, d_model=width).mean()
            for width in WIDTHS[1:]
        ]
        assert one.value == pytest.approx(np.mean(each))
        assert one.noise is not None
        cells = [
            values(table, "loss_nats", series=series, budget_flops=one.budget_flops, d_model=width)
            for series in ("memory_plus", "dense")
            for width in WIDTHS
        ]
        cells = [cell for cell in cells if len(cell)]
        # Of the budget's own runs. Each size's difference of two means of two seeds has the variance std^2; the mean
        # of four a quarter of it.
        assert one.noise.degrees == len(cells)
        variance = np.mean([cell.var(ddof=1) for cell in cells])
        assert one.noise.std == pytest.approx(np.sqrt(variance / (len(WIDTHS) - 1)))


def test_the_law_against_slots_is_found(tmp_path: Path) -> None:
    found = table_sizes(runs(tmp_path, Settings(slots=SIZES, noise=1e-9, budgets=(1e14, 4e14))), (LOSS,))
    assert found is not None
    assert len(found.curves) == 2
    for curve in found.curves:
        law = found.law(curve)
        assert law is not None
        assert law.num_budgets == len(SIZES)
        assert float(law.fit.slope(law.fit.best)[0]) == pytest.approx(0.02, rel=1e-4)
        assert [point.num_slots for point in curve.points] == list(SIZES)


def test_the_law_and_the_change_hold_the_truth_as_often_as_they_say(tmp_path: Path) -> None:
    truth = Settings(slots=SIZES, seeds=(0, 1), noise=0.004, facts=False)
    laws = changes = 0
    for seed in range(40):
        found = table_sizes(runs(tmp_path, truth, seed), (LOSS,))
        assert found is not None
        law = found.law(found.curves[0])
        assert law is not None
        slope, change = law.slope_interval(), found.curves[0].change["loss_nats"].interval
        assert slope is not None
        assert change is not None
        laws += slope.lower <= 0.02 <= slope.upper
        expected = 3.6 * np.exp(-0.03) * (16.0**-0.02 - 4.0**0.02)
        changes += change.lower <= expected <= change.upper
    assert laws >= 33
    assert changes >= 33


@pytest.mark.parametrize(("count", "law"), [(2, False), (3, False), (4, True)])
def test_a_law_needs_four_sizes(tmp_path: Path, count: int, law: bool) -> None:
    found = table_sizes(runs(tmp_path, Settings(slots=SIZES[:count])), measures(runs(tmp_path, Settings(slots=SIZES))))
    assert found is not None
    assert (found.laws is not None) == law
    assert ("too few for a law" in found.no_law) == (not law)


def test_slots_that_vary_with_the_budget_alone_are_no_curve(tmp_path: Path) -> None:
    assert table_sizes(runs(tmp_path, Settings(budgets=(1e14, 4e14))), (LOSS,)) is None


def test_the_means_by_slots_are_those_of_the_rows(tmp_path: Path) -> None:
    table = settings_rows(Settings(slots=SIZES, budgets=(1e14, 4e14)))
    done = studied(tmp_path, table)
    content = json.loads(card_text(card(done, question="", sweep="")))
    for curve in content["table_sizes"]["curves"]:
        for point in curve["points"]:
            losses = values(table, "loss_nats", series=point["series"], budget_flops=curve["budget_flops"])
            assert point["loss_nats"]["value"] == pytest.approx(losses.mean())
            assert point["num_slots"] == int(point["series"].split("=")[1])
            low, high = point["loss_nats"]["ci95"]
            assert low < losses.mean() < high
    assert headline(done).verdict == "better"
    assert "Memory+'s recall of people rises by" in headline(done).sentence
    assert any("Memory+'s loss falls by" in one for one in headline(done).details)
    assert f"from 2¹² to 2¹⁸ slots (4{formatting.TIMES}10¹⁴ FLOPs)" in headline(done).sentence


@pytest.mark.parametrize(("best", "edge"), [(96, ""), (12, "smallest"), (900, "largest")])
def test_the_lowest_size_is_found_and_an_edge_is_flagged(tmp_path: Path, best: float, edge: str) -> None:
    sweep = Settings(families=("dense",), widths=WIDTHS, best_width=best, noise=1e-5, bowl=0.2)
    done = studied(tmp_path, settings_rows(sweep))
    assert done.isoflops is not None
    (curve,) = done.isoflops.curves
    assert curve.edge == edge
    assert curve.near == ()
    assert curve.best.budget.name == f"1e+14-d{ {'': 96, 'smallest': WIDTHS[0], 'largest': WIDTHS[-1]}[edge] }"
    answer = headline(done)
    assert answer.verdict == ("edge" if edge else "inside")
    assert ("the best may lie outside" in answer.sentence) == bool(edge)
    assert done.curves == {}
    assert "several model sizes at one number of FLOPs" in done.no_curves["flops"]


def test_sizes_that_noise_hides_are_not_told_apart(tmp_path: Path) -> None:
    sweep = Settings(families=("dense",), widths=WIDTHS, bowl=0.0, noise=0.003)
    found = studied(tmp_path, settings_rows(sweep)).isoflops
    assert found is not None
    (curve,) = found.curves
    assert len(curve.near) >= len(WIDTHS) - 2
    assert curve.lowest not in curve.near


def test_variants_are_compared_with_their_reference(tmp_path: Path) -> None:
    table = settings_rows(Settings(ablations=ABLATIONS, noise=0.001, seeds=(0, 1, 2)))
    done = studied(tmp_path, table)
    (group,) = done.ablations
    assert group.reference == "memory_plus"
    assert [one.series.split(" ")[1] for one in group.ablations] == ["layers=1-2-3", "key_width=16", "gated=false"]
    for one in group.ablations:
        ours, theirs = (values(table, "loss_nats", series=name).mean() for name in (one.series, "memory_plus"))
        assert one.loss.overall.value == pytest.approx(ours - theirs)
    assert [one.verdict for one in group.ablations] == ["better", "not distinguishable", "worse"]
    assert headline(done).sentence == (
        "Of 3 ablations of Memory+, 1 reaches a lower loss than Memory+, 1 reaches a higher one and 1 is not"
        " distinguishable from it."
    )


def test_table_sizes_are_no_variants_and_families_come_first_where_several_are_sparse(tmp_path: Path) -> None:
    assert studied(tmp_path, settings_rows(Settings(slots=SIZES))).ablations == ()
    both = studied(tmp_path, settings_rows(Settings(slots=SIZES, families=("dense", "moe", "memory_plus"))))
    assert both.focus == "families"
    assert both.pairs[0] == (f"memory_plus num_slots={SIZES[0]}", "moe")
    assert any("On a fixed base" in detail for detail in headline(both).details)


def test_sizes_that_differ_by_design_are_no_gap(tmp_path: Path) -> None:
    table = settings_rows(Settings(slots=SIZES, families=("dense", "moe", "memory_plus")))
    gaps = {mismatch.words: mismatch for mismatch in studied(tmp_path, table).mismatches}
    sizes = [
        values(table, "params_total", series=series).mean() for series in ("moe", f"memory_plus num_slots={SIZES[0]}")
    ]
    assert gaps["total parameters"].value == pytest.approx(max(sizes) / min(sizes) - 1)
    spent = [values(table, "flops_train", series=series).mean() for series in {row["series"] for row in table}]
    assert gaps["training FLOPs"].value == pytest.approx(max(spent) / min(spent) - 1)


@pytest.mark.parametrize(
    ("flops", "tokens", "said"),
    [
        (1.005, 1.0, "At equal training compute,"),
        (1.05, 1.0, "At equal tokens (training FLOPs differ by up to 5.0"),
        (1.05, 1.1, "At the same budgets (training FLOPs differ by up to 5.0"),
    ],
)
def test_equal_compute_is_claimed_only_where_it_is_so(tmp_path: Path, flops: float, tokens: float, said: str) -> None:
    table = settings_rows(Settings(families=("dense", "moe", "memory_plus"), budgets=(1e14, 4e14)))
    for row in table:
        if row["series"] == "memory_plus":
            row["flops_train"] = float(str(row["flops_train"])) * flops
            row["tokens"] = int(float(str(row["tokens"])) * tokens)
    done = studied(tmp_path, table)
    assert headline(done).sentence.startswith(said)
    titles = [one.title for one in sweep_figures.draw(done)]
    words = said.split(",")[0].split(" (")[0].lower()
    assert titles[0] == f"What Memory+ gains {words}"


def test_settings_share_the_rates_tuned_for_their_family(tmp_path: Path) -> None:
    table = settings_rows(Settings(slots=SIZES, widths=(64, 128)))
    first = next(row for row in table if row["series"] == f"memory_plus num_slots={SIZES[0]}" and row["d_model"] == 128)
    tune = [
        first | {"stage": "tune", "seed": 1000, "learning_rate": rate, "loss_nats": loss, "run_id": f"t{rate}"}
        for rate, loss in ((0.003, 3.7), (0.01, 3.5), (0.03, 3.6))
    ]
    for row in table:
        row["learning_rate"] = 0.01 * 128 / float(str(row["d_model"]))
    one = {found.family: found for found in studied(tmp_path, tune + table).learning_rates}["memory_plus"]
    assert one.learning_rate == 0.01
    assert len(one.tuning_runs) == 3
    assert one.edges == ()
    assert one.note == "scaled at other widths"


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("family", "moe", r"row 5.*'family'.*is moe, but other runs of the series 'memory_plus' have memory_plus"),
        ("budget_flops", 2e14, r"row 5.*'budget_flops'.*other runs of the budget '1e\+14' have"),
        ("series", "", r"row 5.*'series'.*empty"),
        ("budget", "", r"row 5.*'budget'.*empty"),
        ("num_slots", 0, r"row 5.*'num_slots'.*above zero"),
        ("num_slots", "", r"row 5.*'num_slots'.*other runs"),
    ],
)
def test_tables_whose_groups_contradict_themselves_are_refused(
    tmp_path: Path, column: str, value: object, said: str
) -> None:
    table = settings_rows(Settings(seeds=(0, 1, 2)))
    table[4][column] = value
    with pytest.raises(TableError, match=said):
        read_results(write(tmp_path / "t.csv", table))


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("memory_plus", "Memory+"),
        ("memory_plus num_slots=4096", "Memory+ 2¹² slots"),
        ("memory_plus num_slots=90000 knn=8", "Memory+ 300² slots, 8 selected"),
        ("memory_plus gated=false", "Memory+ not gated"),
        ("memory_plus qk_norm=false", "Memory+ without qk norm"),
        ("memory_plus layers=4-12-20", "Memory+ layers 4, 12, 20"),
        ("memory_plus num_heads=1", "Memory+ 1 head"),
        ("moe num_experts=16 experts_per_token=1", "MoE 16 experts, top 1"),
        ("moe routing=expert_choice", "MoE expert choice"),
        ("moe routing=hash", "MoE hash"),
        ("my_own value_width=64", "my_own value width 64"),
    ],
)
def test_series_have_names_for_people(label: str, words: str) -> None:
    assert formatting.series(label) == words


def test_the_commands_know_series_and_families(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "t.csv", settings_rows(Settings(slots=SIZES, budgets=(1e14, 4e14)))))
    large = f"memory_plus num_slots={SIZES[-1]}"
    assert main(["gain", path, "--of", large, "--over", "dense", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {(one["subject"], one["baseline"]) for one in found["comparisons"]} == {(large, "dense")}
    assert main(["gain", path, "--of", large, "--over", f"memory_plus num_slots={SIZES[0]}"]) == 0
    assert "Memory+ 2¹⁸ slots reaches a lower loss than Memory+ 2¹² slots" in capsys.readouterr().out
    assert main(["fit", path, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["families"]) == {
        "dense",
        *(f"memory_plus num_slots={slots}" for slots in SIZES),
    }
    assert main(["gain", path, "--of", "memory"]) == 2
    assert f"the table has dense, memory_plus num_slots={SIZES[0]}" in capsys.readouterr().err
