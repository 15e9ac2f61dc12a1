"""What a table says of how its runs were trained is looked at: edges of rates, and schedules that end elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.cli.main import main
from analysis.errors import TableError
from analysis.tables import ColumnMap, Filters, Observations, observe

COLUMNS = ColumnMap(loss="loss", params="N", tokens="D", learning_rate="lr", schedule_tokens="end")
HEADER = "N,D,lr,end,seed,loss\n"


def points_of(tmp_path: Path, rows: str, filters: Filters | None = None) -> Observations:
    path = tmp_path / "t.csv"
    path.write_text(HEADER + rows)
    return observe(path, COLUMNS, filters)


def sweep(best_at: dict[float, int], *, rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)) -> str:
    """Rows of a sweep of rates at each N, the lowest loss at the given place among them."""
    return "".join(
        f"{n},2e9,{rate},2e9,0,{3 + 0.1 * abs(place - best)}\n"
        for n, best in best_at.items()
        for place, rate in enumerate(rates)
    )


def test_a_rate_between_others_is_well_and_one_at_an_edge_is_said_with_its_row(tmp_path: Path) -> None:
    assert points_of(tmp_path, sweep({1e7: 1, 2e7: 1})).warnings == (_flat(),)
    (_, said) = points_of(tmp_path, sweep({1e7: 1, 2e7: 0, 4e7: 2})).warnings
    assert "at 2 of 3 settings the lowest loss has the smallest or the largest learning rate tried (rows 4, 9)" in said


def test_one_rate_at_each_setting_cannot_be_judged(tmp_path: Path) -> None:
    rows = "1e7,2e9,1e-3,2e9,0,3.5\n2e7,4e9,2e-3,4e9,0,3.2\n"
    (said,) = points_of(tmp_path, rows).warnings
    assert "cannot be told" in said


def test_another_rate_is_no_replicate_and_seeds_of_a_rate_are_averaged(tmp_path: Path) -> None:
    lucky = "1e7,2e9,1e-3,2e9,0,2.0\n1e7,2e9,1e-3,2e9,1,4.0\n"
    points = points_of(tmp_path, lucky + "1e7,2e9,3e-3,2e9,0,2.8\n1e7,2e9,1e-2,2e9,0,3.1\n2e7,4e9,3e-3,4e9,0,2.7\n")
    assert points.num_settings == 4
    assert not any("edge" in said or "smallest" in said for said in points.warnings)
    assert set(points.columns) == {"N", "D"}
    assert points.column_names["learning rate"] == "lr"


def test_rows_before_the_end_of_their_schedule_are_said_and_those_left_out_are_not(tmp_path: Path) -> None:
    rows = sweep({1e7: 1}) + "2e7,1e9,3e-3,4e9,0,3.4\n2e7,2e9,3e-3,4e9,0,3.3\n2e7,4.02e9,3e-3,4e9,0,3.2\n"
    (said,) = [one for one in points_of(tmp_path, rows).warnings if "schedule" in one]
    assert "2 of 6 rows were not read at the end of the schedule, but at 0.25 to 0.5 of it (rows 4, 5)" in said
    kept = points_of(tmp_path, rows, Filters(where="D >= 1.5e9", drop_highest=1))
    assert not any("rows 4" in one for one in kept.warnings)


@pytest.mark.parametrize("wrong, said", [("0", "above zero"), ("fast", "'fast' is text"), ("", "has no value")])
def test_a_rate_that_is_none_is_refused(tmp_path: Path, wrong: str, said: str) -> None:
    with pytest.raises(TableError, match=f"row 1 .*column 'lr': .*{said}"):
        points_of(tmp_path, f"1e7,2e9,{wrong},2e9,0,3.5\n")


def test_a_schedule_needs_tokens_and_the_command_says_both_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TableError, match="--schedule-tokens is compared with the tokens"):
        ColumnMap(loss="loss", params="N", schedule_tokens="end")
    path = tmp_path / "t.csv"
    path.write_text(HEADER + sweep({1e7: 0, 2e7: 1, 4e7: 1, 8e7: 2}).replace(",2e9,0,", ",8e9,0,"))
    arguments = ["fit", str(path), "--law", "power", "--params", "N", "--loss", "loss", "--tokens", "D"]
    arguments += ["--learning-rate", "lr", "--schedule-tokens", "end", "--factor", "x=N"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "12 of 12 rows were not read at the end of the schedule" in said
    assert "at 2 of 4 settings" in said


def _flat() -> str:
    return "every point has the same tokens (D = 2e+09): how the loss changes with D cannot be told"
