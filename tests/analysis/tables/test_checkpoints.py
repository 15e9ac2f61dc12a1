"""Checkpoints of one run are recognised, resampled by run and reported; grids of independent runs are not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.errors import TableError
from analysis.tables import observe, read

PUBLISHED = Path(os.environ.get("MEMSCALE_DATA_DIR") or Path(__file__).parents[4] / "shared" / "data") / "published"
SIZES = (1e7, 2.3e7, 7.1e7, 1.9e8)


def runs(tokens: np.ndarray, *, sizes: tuple[float, ...] = SIZES) -> pd.DataFrame:
    """Every size at every number of tokens, with the run's name and the step of batches of 1,000 tokens."""
    rows = [
        {"N": size, "D": D, "loss": 1.7 + 400 / size**0.34 + 400 / D**0.28, "run_id": f"run-{at}", "step": D / 1e3}
        for at, size in enumerate(sizes)
        for D in tokens.tolist()
    ]
    return pd.DataFrame(rows)


EVEN = np.arange(1, 13) * 1e9
FACTORS = np.geomspace(1e9, 1e11, 12)


@pytest.mark.parametrize(
    "tokens, columns, why",
    [
        (EVEN, ["run_id", "step"], "'run_id' repeats"),
        (FACTORS, ["run_id"], "'run_id' repeats"),
        (EVEN, ["step"], "'step' rises evenly"),
        (EVEN, [], "evenly spaced tokens alone"),
        (EVEN[:4], ["step"], "'step' rises evenly"),
        (np.concatenate([2.0 ** np.arange(10), 1000.0 * np.arange(1, 40)]) * 1e6, [], "evenly spaced tokens alone"),
    ],
    ids=["id-and-step", "id", "step", "tokens", "few-steps", "powers-of-two-first"],
)
def test_rows_of_one_run_are_resampled_together(tokens: np.ndarray, columns: list[str], why: str) -> None:
    table = runs(tokens)[["N", "D", "loss", *columns]]
    found = observe(table)
    assert found.checkpoints
    assert found.cluster is not None
    assert pd.Series(found.cluster).groupby(table["N"].to_numpy()).nunique().tolist() == [1] * len(SIZES)
    assert len(set(found.cluster)) == len(SIZES)
    (said,) = [one for one in found.warnings if "checkpoints" in one]
    assert f"{len(table)} rows are checkpoints of {len(SIZES)} runs" in said
    assert why in said


@pytest.mark.parametrize(
    "table",
    [
        runs(EVEN[:5])[["N", "D", "loss"]],
        runs(np.geomspace(1e9, 4e9, 3)),
        runs(EVEN).assign(run_id=lambda table: [f"run-{at}" for at in range(len(table))]),
        runs(FACTORS).rename(columns={"step": "steps"})[["N", "D", "loss", "steps"]],
        runs(FACTORS).assign(run=lambda table: table.groupby("N").cumcount() % 3)[["N", "D", "loss", "run"]],
    ],
    ids=["few-tokens", "final-runs-with-names", "another-run-each-row", "steps-of-final-runs", "run-of-several-sizes"],
)
def test_independent_runs_are_not_taken_for_checkpoints(table: pd.DataFrame) -> None:
    if "run_id" in table and table["run_id"].nunique() < len(table):
        table = table.drop(columns=["run_id", "step"])
    assert not observe(table).checkpoints
    assert observe(table).cluster is None


def test_where_it_cannot_be_told_a_warning_says_what_to_do() -> None:
    table = runs(FACTORS)[["N", "D", "loss"]]
    (said,) = observe(table).warnings
    assert "48 rows are of 4 groups" in said
    assert "--checkpoints cluster" in said
    clustered = observe(table, checkpoints="cluster")
    assert clustered.checkpoints
    assert len(set(np.asarray(clustered.cluster))) == len(SIZES)
    assert observe(table, checkpoints="independent").warnings == ()


def test_sizes_that_share_flops_or_tokens_per_parameter_are_designs() -> None:
    sizes = np.geomspace(1e7, 1e9, 9)
    grid = [(size, flops / 6 / size) for size in sizes for flops in np.geomspace(1e18, 1e20, 7)]
    isoflop = pd.DataFrame(grid, columns=["N", "D"]).assign(
        loss=lambda one: 2 + 1e3 / one["N"] ** 0.4 + one["D"] ** -0.3
    )
    assert observe(isoflop).warnings == ()
    ratios = [(size, ratio * size) for size in sizes for ratio in (5, 12, 20, 40, 90, 160)]
    testbed = pd.DataFrame(ratios, columns=["N", "D"]).assign(loss=lambda one: 2 + 1e3 / one["N"] ** 0.4)
    assert observe(testbed).warnings == ()


def test_only_the_last_row_of_each_run_can_be_kept() -> None:
    found = observe(runs(EVEN), checkpoints="final")
    assert found.columns["D"].tolist() == [12e9] * len(SIZES)
    assert not found.checkpoints
    assert found.excluded_by() == {"checkpoints final": 11 * len(SIZES)}
    table = runs(FACTORS)[["N", "D", "loss"]]
    assert len(observe(table, checkpoints="final", cluster="N")) == len(SIZES)


def test_the_user_s_cluster_stays_and_impossible_wishes_are_refused() -> None:
    table = runs(EVEN).assign(group=lambda one: np.arange(len(one)) // 24)
    found = observe(table, cluster="group")
    assert found.checkpoints
    assert np.asarray(found.cluster).tolist() == table["group"].tolist()
    assert any("resampled by 'group'" in one for one in found.warnings)
    with pytest.raises(TableError, match="nothing says which rows are checkpoints"):
        observe(runs(EVEN[:2])[["N", "D", "loss"]], checkpoints="final")
    with pytest.raises(TableError, match="--checkpoints last: give auto, cluster, final, independent"):
        observe(table, checkpoints="last")


def test_published_checkpoints_are_found() -> None:
    table = read(PUBLISHED / "deepmind_routing_curves.csv.gz")
    options = {"loss": "loss_validation", "params": "dense_parameter_count", "tokens": "step"}
    factors = {"E": "num_experts"}
    found = observe(table, **options, factors=factors, where="step > 0", drop_invalid=True)
    assert found.checkpoints
    assert len(set(np.asarray(found.cluster))) == 223
    expected = pd.factorize(table.loc[found.row, "hyper_id"])[0]
    assert np.array_equal(np.asarray(found.cluster), expected)
    nameless = table.drop(columns=["hyper_id", "step"]).assign(D=table["step"])
    options["tokens"] = "D"
    where = "D > 0 and router_type == 'Dense'"
    assert observe(nameless, **options, where=where, drop_invalid=True).checkpoints


@pytest.mark.parametrize(
    "file, options, groups",
    [
        ("gadre_scaling_testbed_104.csv", {"loss": "loss_c4_val"}, None),
        ("gadre_scaling_testbed_104.csv", {"loss": "loss_c4_val"}, "dataset_name"),
        ("epoch_chinchilla_svg_extracted.csv",
         {"loss": "loss", "params": "Model Size", "flops": "Training FLOP", "tokens_from_flops": True}, None),
        ("openathena_isoflops.csv", {"params": "params", "tokens": "tokens"}, "experiment"),
        ("openathena_isoflops.csv", {"params": "params", "tokens": "tokens", "flops": "budget"}, "experiment"),
    ],
    ids=["gadre", "gadre-each", "epoch", "isoflops", "isoflops-budgets"],
)  # fmt: skip
def test_published_designs_are_no_checkpoints(file: str, options: dict[str, object], groups: str | None) -> None:
    table = read(PUBLISHED / file)
    parts = [table] if groups is None else [part for _, part in table.groupby(groups)]
    for part in parts:
        found = observe(part, **options)
        assert not found.checkpoints
        assert found.cluster is None
        assert not any("checkpoints" in one for one in found.warnings)
