"""Where a curve over table sizes reaches dense models of more compute: found again, with an interval that holds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic_results import Row, Settings, settings_rows, write

from analysis.gains.measures import FACT_NATS, LOSS
from analysis.sweep.dense_levels import Crossing
from analysis.sweep.table_size import TableSizes, table_sizes
from analysis.tables.results import read_results

SIZES = tuple(2**power for power in (10, 12, 14, 16, 18, 20))
ALPHA, GAIN = 0.02, -0.03
"""Of `Settings`: ln loss of Memory+ over dense is GAIN - ALPHA ln(slots / 2^14)."""


def swept(noise: float, reached: dict[float, float], seed: int = 0, seeds: tuple[int, ...] = (0, 1, 2)) -> list[Row]:
    """Memory+ in all sizes at one budget, dense there and at multiples of it whose loss it reaches at given slots."""
    table = settings_rows(Settings(slots=SIZES, noise=noise, seeds=seeds, facts=False), seed)
    random = np.random.default_rng(seed + 1000)
    once = [row for row in table if row["series"] == "dense"]
    base = 3.6
    for multiple, slots in reached.items():
        level = base * np.exp(GAIN - ALPHA * np.log(slots / 2**14))
        for row in once:
            table.append(
                row
                | {
                    "name": f"dense-x{multiple:g}-s{row['seed']}",
                    "run_id": f"x{multiple:g}s{row['seed']}",
                    "budget": f"x{multiple:g}",
                    "budget_flops": float(str(row["budget_flops"])) * multiple,
                    "flops_train": float(str(row["flops_train"])) * multiple,
                    "loss_nats": level * float(np.exp(noise * random.standard_normal())),
                }
            )
    for row in table:  # the same of another measure, in another unit and with the better end above
        row |= {"score_dense_facts_nats": row["loss_nats"], "score_dense_facts_nats_stderr": 1e-9}
    return table


def found(path: Path, table: list[Row]) -> TableSizes:
    sizes = table_sizes(read_results(write(path / "t.csv", table)).compare, (LOSS, FACT_NATS))
    assert sizes is not None
    return sizes


def crossings(sizes: TableSizes) -> dict[float, Crossing]:
    (curve,) = sizes.curves
    return {round(level.multiple, 1): level.crossings["loss_nats"] for level in curve.levels}


def test_the_sizes_that_reach_dense_models_are_found(tmp_path: Path) -> None:
    exact = found(tmp_path, swept(1e-7, {2.0: 2**13.37, 4.0: 2**17.37}))
    by_multiple = crossings(exact)
    assert list(by_multiple) == [1.0, 2.0, 4.0]
    for multiple, slots in ((2.0, 2**13.37), (4.0, 2**17.37)):
        assert by_multiple[multiple].verdict == "crossed"
        assert by_multiple[multiple].slots == pytest.approx(slots, rel=0.01)
    # Memory+ of 2^10 slots has 0.03 - 0.02 x 4 ln 2 more than dense: it is worse, and reaches it at 2^14 e^-1.5.
    assert by_multiple[1.0].slots == pytest.approx(2**14 * np.exp(-1.5), rel=0.01)
    (curve,) = exact.curves
    assert curve.levels[1].crossings["score_dense_facts_nats"].slots == pytest.approx(2**13.37, rel=0.01)
    assert "2\N{MULTIPLICATION SIGN} compute: crossed at 2^13.4 slots" in exact.summary()


def test_what_the_sizes_do_not_show_stays_open(tmp_path: Path) -> None:
    beyond = crossings(found(tmp_path, swept(1e-3, {2.0: 2**8, 4.0: 2**26})))
    assert (beyond[4.0].slots, beyond[4.0].verdict) == (None, "not crossed")
    assert beyond[4.0].interval is not None
    assert beyond[4.0].interval.upper == float("inf")
    assert beyond[4.0].words.startswith("not crossed within the sizes tried")
    assert (beyond[2.0].slots, beyond[2.0].verdict) == (None, "better at every size")
    assert beyond[2.0].interval is not None
    assert beyond[2.0].interval.lower == 0.0
    alone = crossings(found(tmp_path, swept(1e-3, {2.0: 2**15}, seeds=(0,))))
    assert alone[2.0].interval is None


def test_the_interval_holds_the_crossing_as_often_as_it_says(tmp_path: Path) -> None:
    held = 0
    for seed in range(40):
        interval = crossings(found(tmp_path, swept(0.006, {2.0: 2**15}, seed)))[2.0].interval
        assert interval is not None
        held += interval.holds(2.0**15)
    assert 34 <= held <= 40


def test_dense_models_of_less_compute_are_no_levels(tmp_path: Path) -> None:
    assert list(crossings(found(tmp_path, swept(1e-3, {0.5: 2**12})))) == [1.0]
