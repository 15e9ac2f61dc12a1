"""Published fits are made again to the printed digits; data are found, fetched by digest, or named with how to get."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from analysis.cli.main import main
from analysis.cli.reproduce import COMPARISONS
from analysis.published import sources
from analysis.published.comparison import Line, half_digit
from analysis.published.memory_forms import FORMS, memory_forms
from analysis.published.memory_layers import READING_ERROR, TABLE_1, TABLE_2, TASKS, TASKS_2, figure_1
from analysis.published.sources import MissingError, Source, find
from tests.published import FOLDER, needs_published


@needs_published
@pytest.mark.slow
def test_every_published_number_is_found_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures, card = tmp_path / "figures", tmp_path / "o.json"
    assert main(["reproduce", "--data", str(FOLDER), "--json", str(card), "--figures", str(figures)]) == 0
    said = capsys.readouterr().out
    found = json.loads(card.read_text())
    assert [one["name"] for one in found["comparisons"]] == list(COMPARISONS)
    assert found["missing"] == {}
    numbers = [number for one in found["comparisons"] for number in one["numbers"]]
    assert len(numbers) > 60
    assert [number["what"] for number in numbers if not number["agrees"]] == []
    assert f"{len(numbers)} of {len(numbers)} published numbers agree" in said
    assert (figures / "memory_layers" / "memory_layers_figure_1.png").is_file()


def test_a_number_that_differs_is_said_and_changes_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = "memory_params_keys,memory_param_count,metric,task,value,dense_7b_2T_baseline\n"
    for task, metric, values in (
        ("NQ", "accuracy", (7.76, 9.88, 14.47, 25.0, 20.81)),
        ("TQA", "accuracy", (32.7, 39.4, 51.1, 58.9, 62.0)),
        ("NQ", "nll", (11.76, 10.52, 9.36, 8.54, 8.03)),
    ):
        table += "".join(
            f"0,{params},{metric},{task},{value},7.76\n"
            for params, value in zip((0, 2e9, 8e9, 3e10, 1e11), values, strict=True)
        )
    (tmp_path / sources.MEMORY_FIGURE.name).write_text(table)
    assert main(["reproduce", "memory_layers", "--data", str(tmp_path), "--no-download"]) == 1
    said = capsys.readouterr().out
    assert "25.0" in said
    assert said.count("differs") == 1


def test_what_is_not_at_hand_is_named_with_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(["reproduce", "--data", str(tmp_path), "--no-download"]) == 0
    said = capsys.readouterr().out
    for source in (sources.CHINCHILLA, sources.ROUTING, sources.TESTBED):
        assert source.name in said
        assert source.origin in said
    assert "6 not made for want of data" in said
    assert main(["reproduce", "chinchila"]) == 2
    assert "there are: chinchilla" in capsys.readouterr().err


def test_a_file_is_fetched_from_its_original_place_and_kept_only_with_its_digest(tmp_path: Path) -> None:
    origin, cache = tmp_path / "origin.csv", tmp_path / "cache"
    origin.write_bytes(b"a,b\n1,2\n")
    digest = hashlib.sha256(origin.read_bytes()).hexdigest()
    source = Source(name="t.csv", sha256=digest, origin="here", url=origin.as_uri())
    path = find(source, tmp_path / "nowhere", cache=cache)
    assert path == cache / "t.csv"
    assert path.read_bytes() == origin.read_bytes()
    origin.unlink()
    assert find(source, tmp_path / "nowhere", cache=cache) == path
    path.unlink()
    with pytest.raises(MissingError, match="cannot be downloaded"):
        find(source, tmp_path / "nowhere", cache=cache)
    origin.write_bytes(b"other")
    with pytest.raises(MissingError, match="the data have changed"):
        find(source, tmp_path / "nowhere", cache=cache)
    assert not path.exists()


def test_printed_digits_say_how_exactly_a_number_is_known() -> None:
    assert half_digit("477.83") == pytest.approx(0.0051)
    assert half_digit("239") == pytest.approx(0.51)
    assert half_digit("-0.0827") == pytest.approx(0.000051)
    assert Line(what="", published=2.1, ours=2.149, tolerance=half_digit("2.1")).agrees
    assert not Line(what="", published=2.1, ours=2.16, tolerance=half_digit("2.1")).agrees
    assert not Line(what="", published=2.1, ours=float("nan"), tolerance=1.0).agrees


def test_typed_tables_have_a_number_for_every_task() -> None:
    assert all(len(row) == len(TASKS) + 1 for row in TABLE_1.values())
    assert all(len(row) == len(TASKS_2) for row in TABLE_2.values())


@needs_published
def test_the_digitised_figure_is_four_curves_of_five_sizes() -> None:
    curves = figure_1(FOLDER / sources.MEMORY_FIGURE.name)
    assert {(one.task, one.metric) for one in curves} == {(t, m) for t in ("NQ", "TQA") for m in ("accuracy", "nll")}
    assert all(len(one.values) == 5 for one in curves)


@needs_published
def test_forms_of_a_memory_law_miss_the_largest_table_of_the_figure_by_far_more_than_its_reading_error() -> None:
    forms = memory_forms(FOLDER / sources.MEMORY_FIGURE.name)
    assert {(one.task, one.law.name) for one in forms} == {(task, name) for task in ("NQ", "TQA") for name in FORMS}
    for one in forms:
        assert len(one.coefficients) == 3
        assert one.fit_rms < 0.3
        # Each says that the NLL falls further than it does: the curve flattens faster than any of them.
        assert one.largest_error < -5 * READING_ERROR["nll"]
    additive = {one.task: abs(one.largest_error) for one in forms if one.law.name == "memory_additive"}
    for one in forms:
        assert abs(one.largest_error) >= additive[one.task]
