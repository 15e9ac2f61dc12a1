"""Reports of every kind of sweep: nothing is invented where the table is thin, and no text leaves its figure."""

from __future__ import annotations

import colorsys
import functools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox
from synthetic_results import Row, Settings, Truth, rows, settings_rows, write

from analysis.card import text as card_text
from analysis.figures import sweep as sweep_figures
from analysis.figures.figure import Figure
from analysis.figures.palette import family_style, series_styles
from analysis.report import build
from analysis.report.page import page
from analysis.report.study_json import card
from analysis.sweep.study import Study, study
from analysis.tables.results import read_results

SIZES = tuple(2**power for power in range(12, 21))
TWELVE = {f"key_width={width}": 0.001 * width for width in range(2, 24, 2)}
SWEEPS: dict[str, list[Row]] = {
    "slots": settings_rows(Settings(slots=SIZES)),
    "slots on bases": settings_rows(Settings(slots=SIZES[:4], budgets=(1e14, 4e14, 1.6e15))),
    "twelve ablations": settings_rows(Settings(ablations=TWELVE)),
    "ablations at budgets": settings_rows(Settings(ablations={"gated=false": 0.01}, budgets=(1e14, 4e14))),
    "sizes": settings_rows(Settings(families=("dense",), widths=(64, 96, 128), budgets=(1e14, 1e15))),
    "sizes of families": settings_rows(
        Settings(families=("dense", "moe", "memory_plus"), widths=(64, 96, 128), budgets=(1e14, 1e15))
    ),
    "families": rows(Truth()),
    "no dense": settings_rows(Settings(slots=SIZES[:3], families=("memory_plus",))),
    "no facts": settings_rows(Settings(slots=SIZES[:3], facts=False)),
    "one seed": settings_rows(Settings(slots=SIZES[:5], seeds=(0,))),
    "one seed, ablations": settings_rows(Settings(ablations={"gated=false": 0.01, "knn=8": 0.0}, seeds=(0,))),
    "one seed, sizes": settings_rows(Settings(families=("dense",), widths=(64, 96, 128), seeds=(0,))),
    "one series": settings_rows(Settings(families=("memory_plus",))),
    "one ablation": settings_rows(Settings(families=("memory_plus",), ablations={"gated=false": 0.0})),
    "two sizes": settings_rows(Settings(families=("dense",), widths=(64, 128), facts=False)),
    "sizes of tables on sizes of models": settings_rows(Settings(slots=SIZES[:4], widths=(64, 128))),
}
for _number, _row in enumerate(KNOWLEDGE := rows(Truth(budgets=(1e14, 2e14, 4e14, 8e14), facts=False, tuning=False))):
    _bits = float(str(_row["budget_flops"])) / 4e14
    _level = {"dense": 0.8, "moe": 1.5, "memory_plus": 4.0}[str(_row["family"])]
    _row["bits_offered_per_parameter"] = _bits
    _row["bits_stored_per_parameter"] = _level * (1 - np.exp(-_bits / _level)) + 0.004 * np.cos(_number)
SWEEPS["knowledge"] = KNOWLEDGE
OWN_COLUMNS = {"series", "budget", "num_slots", "d_model", "params_active", "params_total", "flops_per_token_forward"}


def studied(path: Path, table: list[Row]) -> Study:
    return study(read_results(write(path / "t.csv", table)))


Made = Callable[[str], tuple[Study, dict[str, Figure]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The study and the figures of a sweep by its name, made once."""

    @functools.cache
    def make(name: str) -> tuple[Study, dict[str, Figure]]:
        done = studied(tmp_path_factory.mktemp("sweep"), SWEEPS[name])
        return done, {one.stem: one for one in sweep_figures.draw(done)}

    return make


def numbers_in(content: object) -> Iterator[float]:
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for one in content:
            yield from numbers_in(one)
    elif isinstance(content, float):
        yield content


@pytest.mark.parametrize("name", SWEEPS)
def test_every_kind_of_sweep_gives_a_report(made: Made, name: str) -> None:
    done, drawn = made(name)
    html = page(done, list(drawn.values()), question="?", sweep="s", rebuild=["make"], plan={})
    text = card_text(card(done, question="", sweep="s"))
    assert all(math.isfinite(value) for value in numbers_in(json.loads(text)))
    assert "nan" not in html.lower().replace("financial", "")
    assert set(drawn) <= set(build.STEMS)
    assert set(series_styles(done.results.compare)) == set(done.results.compare.labels)
    if name.startswith("one seed"):
        assert '"ci95": [' not in text or "scatter of the budgets about the laws" in text
        assert "noise" in html


@pytest.mark.parametrize("columns", [{"d_model"}, {"num_slots"}, OWN_COLUMNS - {"series", "budget"}])
def test_missing_columns_take_only_what_rests_on_them(tmp_path: Path, columns: set[str]) -> None:
    table = [{key: value for key, value in row.items() if key not in columns} for row in SWEEPS["slots on bases"]]
    done = studied(tmp_path, table)
    assert (done.table_sizes is None) == ("num_slots" in columns)
    page(done, sweep_figures.draw(done), question="?", sweep="s", rebuild=["make"], plan={})


def test_sweeps_draw_what_they_are_about_first(made: Made) -> None:
    first = {name: next(iter(made(name)[1])) for name in SWEEPS}
    assert first["slots"] == "loss_vs_slots"
    assert first["twelve ablations"] == "ablations"
    assert first["sizes"] == "isoflop"
    assert first["families"] == "gain"
    assert list(made("knowledge")[1])[:3] == ["saturation", "gain", "by_budget"]
    assert "by_budget" in made("families")[1]
    assert first["sizes of families"] == "gain"
    for name in ("sizes", "sizes of families"):
        assert not {"loss_vs_flops", "loss_vs_seconds", "recall_vs_flops"} & set(made(name)[1])


def test_the_data_of_the_figures_are_the_runs(made: Made) -> None:
    points = {row[7]: (row[2], row[3]) for row in made("slots")[1]["loss_vs_slots"].rows if row[0] == "run"}
    memory = [row for row in SWEEPS["slots"] if row["family"] == "memory_plus"]
    assert points == {row["name"]: (row["num_slots"], row["loss_nats"]) for row in memory}
    sizes = [row for row in made("sizes")[1]["isoflop"].rows if row[0] == "run"]
    assert {row[7]: row[3] for row in sizes} == {row["name"]: row["loss_nats"] for row in SWEEPS["sizes"]}


def test_slots_stand_on_a_logarithmic_axis_to_base_two(made: Made) -> None:
    axis = made("slots")[1]["loss_vs_slots"].figure.axes[0].xaxis
    assert axis.get_scale() == "log"
    assert axis.get_transform().base == 2
    words = ("2¹²", "2¹³", "2¹⁴", "2¹⁵", "2¹⁶", "2¹⁷", "2¹⁸", "2¹⁹", "2²⁰")
    assert {label.get_text() for label in axis.get_ticklabels()} <= set(words)


def shown(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text of a figure and the box it fills, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [text for axes in figure.axes for text in (*axes.texts, axes.xaxis.label, axes.yaxis.label, axes.title)]
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        # Ticks outside the view have labels too, but they are not drawn.
        low, high = sorted(axis.get_view_interval())
        texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text()]


@pytest.mark.parametrize("name", SWEEPS)
def test_no_text_leaves_its_figure_and_legends_lie_below(made: Made, name: str) -> None:
    for one in made(name)[1].values():
        width, height = one.figure.canvas.get_width_height()
        for text, box in shown(one.figure):
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert inside, (one.stem, text, box, width, height)
        for legend in one.figure.legends:
            renderer = one.figure.canvas.get_renderer()
            lowest = min(axes.get_tightbbox(renderer).y0 for axes in one.figure.axes)
            assert legend.get_window_extent(renderer).y1 <= lowest + 1, one.stem


def test_names_at_the_ends_of_lines_do_not_overlap(made: Made) -> None:
    for name in ("families", "slots on bases", "sizes"):
        for one in made(name)[1].values():
            boxes = [box for text, box in shown(one.figure) if text in ("Dense", "MoE", "Memory+")]
            for number, box in enumerate(boxes):
                for other in boxes[number + 1 :]:
                    overlap = Bbox.intersection(box, other)
                    assert overlap is None or overlap.height < 2, one.stem


def test_a_dozen_series_can_be_told_apart(made: Made) -> None:
    given = series_styles(made("twelve ablations")[0].results.compare)
    assert len(given) == 13
    assert given["memory_plus"] == family_style("memory_plus")
    assert given["dense"] == family_style("dense")
    assert len({(look.marker, look.dashes) for look in given.values()}) == len(given)
    assert len({look.colour for look in given.values()}) == len(given)
    for look in given.values():
        parts = [int(look.colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        assert 0.15 <= colorsys.rgb_to_hls(*parts)[1] <= 0.8


def test_the_look_of_a_reference_does_not_depend_on_what_else_is_there(made: Made) -> None:
    alone, among = (series_styles(made(name)[0].results.compare) for name in ("one series", "twelve ablations"))
    assert alone["memory_plus"] == among["memory_plus"]


@pytest.mark.slow
def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", SWEEPS["no facts"])
    for name in ("one", "two"):
        build.build(path, tmp_path / name)
    files = sorted(file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*") if file.is_file())
    assert Path("figures/loss_vs_slots.csv") in files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    build.build(write(tmp_path / "t.csv", SWEEPS["one series"]), tmp_path / "one")
    assert not list((tmp_path / "one" / "figures").glob("*slots*")), "figures of an earlier report stay"


def test_order_of_rows_does_not_change_the_answer(tmp_path: Path) -> None:
    table = SWEEPS["ablations at budgets"]
    mixed = [table[index] for index in np.random.default_rng(0).permutation(len(table))]
    one, other = (
        {ablation.series: ablation.loss.overall for ablation in studied(tmp_path, rows).ablations[0].ablations}
        for rows in (table, mixed)
    )
    for label, difference in one.items():
        assert other[label].value == pytest.approx(difference.value)
