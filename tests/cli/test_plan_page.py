"""What `memscale plan` prints and hands on: grouped, held to what the sweep holds, short however long the plan."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memscale.cli.main import main
from tests.sweeps import NAME, ROOT, environment

AT_SCALE = ("memory_layers_at_scale", "scale=laptop", "launcher=local")
BY_RULE = ("recipe.learning_rate.rule=fixed", "recipe.learning_rate.value=0.01")


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMSCALE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "250")
    return tmp_path / "runs"


def _page(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["plan", *arguments]) == 0
    return capsys.readouterr().out


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(_page(capsys, *arguments, "--json"))
    return content


def test_every_stage_budget_and_series_has_its_row(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    page = _page(capsys, *AT_SCALE)
    plan = _json(capsys, *AT_SCALE)
    cells = {(row["stage"], row["budget"], row["series"]) for row in plan["runs"]}
    rows = [line for line in page.splitlines() if " MB" in line and not line.startswith(("forecast", "memory"))]
    assert len(rows) == len(cells)
    for stage, budget, series in cells:
        shown = f"{series}  " if stage == "compare" else f"{series} ({stage}) "
        assert sum(line.split()[0] == budget and f" {shown}" in line for line in rows) == 1
    assert f"plan {plan['plan_hash']}   {len(plan['runs'])} runs" in page
    assert not runs.exists()


def test_only_what_is_held_is_called_a_mismatch(capsys: pytest.CaptureFixture[str]) -> None:
    matched = _json(capsys, NAME, "scale=laptop", "launcher=local")
    off = [abs(row["flops_mismatch"]) for row in matched["runs"]]
    assert matched["matched"]["flops_mismatch"] == max(off) <= 0.01
    assert [(one["quantity"], one["among"]) for one in matched["matched"]["held"]] == [
        ("flops_per_token", "against dense"),
        ("total_params", "between sparse models"),
    ]
    for budget in {row["budget"] for row in matched["runs"]}:
        totals = [
            row["params_total"] for row in matched["runs"] if row["budget"] == budget and row["family"] != "dense"
        ]
        assert max(totals) / min(totals) - 1 <= matched["matched"]["params_gap"]
    assert "not held" not in _page(capsys, NAME, "scale=laptop", "launcher=local")

    free = _json(capsys, *AT_SCALE)
    low, high = (choose(row["flops_mismatch"] for row in free["runs"]) for choose in (min, max))
    assert free["matched"]["held"] == []
    assert (free["matched"]["flops_mismatch"], free["matched"]["params_gap"]) == (None, None)
    assert free["matched"]["flops_mismatch_range"] == [low, high]
    page = _page(capsys, *AT_SCALE)
    assert f"not held  FLOPs per token differ by {low:+.1%} ... {high:+.1%}" in page
    assert "params mismatch" not in page


def test_a_long_plan_is_cut_and_all_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    widths = ",".join(str(16 * i) for i in range(3, 33))
    ladder = f"[{{shapes:{{head_width:16,width_per_layer:16,least_layers:4}},d_models:[{widths}],flops:1e13}}]"
    long = (NAME, "scale=laptop", "launcher=local", "scale.budgets=[]", f"scale.ladders={ladder}", *BY_RULE)
    page = _page(capsys, *long)
    whole = _page(capsys, *long, "--all")
    assert "... and 50 rows more: --all prints them" in page
    assert len(page.splitlines()) < 70
    assert "rows more" not in whole
    assert len(whole.splitlines()) == len(page.splitlines()) + 50 - 1


def test_dropped_cells_and_rules_are_told_with_their_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    grid = "[{shapes:{head_width:64,width_per_layer:32},flops:[1e13,2e13],points:21,tokens_per_parameter:20}]"
    sweep = ("isoflop", "scale=laptop", "launcher=local", f"scale.isoflops={grid}")
    plan = _json(capsys, *sweep)
    page = _page(capsys, *sweep)
    assert len(plan["dropped"]) > 10
    assert f"dropped   {len(plan['dropped'])} cells" in page
    first = plan["dropped"][0]
    assert f"  {first['name']}: {first['reason']}" in page
    assert f"  ... and {len(plan['dropped']) - 10} more: --json" in page
    assert [f"  {one['name']}: {one['reason']}" in page for one in plan["dropped"]].count(True) == 10
    ruled = ("memory_vs_moe", "scale=laptop", "launcher=local", "recipe.learning_rate.rule=steplaw")
    ruled = (*ruled, "recipe.learning_rate.allow_outside=true")
    notes = _json(capsys, *ruled)["notes"]
    assert notes
    assert f"note      {notes[0]}" in _page(capsys, *ruled)


def test_the_forecast_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    small = _json(capsys, *AT_SCALE, "launcher.device_memory=60M", "limits.gpu_hours=1e-3")
    told = small["forecast"]
    assert (told["measured"], told["fits"], told["limits"]["exceeded"]) == (False, False, ["gpu_hours"])
    assert told["device_memory_bytes"] == 60 * 2**20
    assert {(one["series"], one["budget"]) for one in told["memory"]} == {
        (row["series"], row["budget"]) for row in small["runs"]
    }
    for one in told["memory"]:
        assert one["fits"] == (one["peak_memory_bytes"] <= 60 * 2**20)
    needs = [one["needs"] for one in told["memory"] if one["needs"] is not None]
    assert needs
    assert all(one["peak_memory_bytes"] <= 60 * 2**20 and 2 <= one["num_gpus"] <= 4 for one in needs)
    assert told["peak_memory_bytes"] == max(one["peak_memory_bytes"] for one in told["memory"])
    page = _page(capsys, *AT_SCALE, "launcher.device_memory=60M", "limits.gpu_hours=1e-3")
    number = sum(not one["fits"] for one in told["memory"])
    assert f"{number} models do not fit" in page
    assert "sharding" in page
    assert "ABOVE     limits.gpu_hours is 0.001" in page
    unknown = _json(capsys, *AT_SCALE, "launcher=slurm")["forecast"]
    assert (unknown["fits"], unknown["device_memory_bytes"]) == (None, None)


def test_ten_thousand_runs_are_planned_in_little_memory_without_torch_and_mlflow(runs: Path) -> None:
    code = (
        "import contextlib, io, sys\nfrom memscale.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out: main(sys.argv[1:])\n"
        "assert not {'torch', 'mlflow', 'submitit', 'transformers'} & set(sys.modules)\n"
        # getrusage's peak would be inherited from the process that forked this one.
        "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(peak, out.getvalue().count('run_id'))"
    )
    seeds = f"scale.seeds=[{','.join(str(2000 + i) for i in range(1667))}]"
    command = ["plan", NAME, "scale=laptop", "launcher=local", seeds, *BY_RULE, "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=ROOT,
        env=environment(runs),
        capture_output=True,
        text=True,
        check=True,
    )
    kilobytes, count = (int(word) for word in done.stdout.split())
    assert count == 10_002
    assert kilobytes < 200_000


def test_options_may_stand_between_the_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    plan = _json(capsys, NAME, "scale=laptop", "launcher=local", "scale.seeds=[5]")
    assert main(["plan", NAME, "--json", "scale=laptop", "launcher=local", "--all", "scale.seeds=[5]"]) == 0
    assert json.loads(capsys.readouterr().out) == plan


def test_the_facts_of_each_budget_are_told_with_their_bits_per_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    plan = _json(capsys, NAME, "scale=laptop", "launcher=local")
    sizes = []
    for budget in plan["budgets"]:
        (dense,) = {
            row["params_non_embedding"]
            for row in plan["runs"]
            if (row["stage"], row["budget"], row["family"]) == ("compare", budget["name"], "dense")
        }
        (facts,) = (one for one in budget["facts"] if one["source"] == "facts")
        assert budget["dense_params_non_embedding"] == dense
        assert facts["bits_per_parameter"] == pytest.approx(facts["bits"] / dense)
        sizes.append(facts["bits_per_parameter"])
    assert sizes[0] == pytest.approx(0.05, rel=0.03)  # the people are sized by the smallest dense model
    page = _page(capsys, NAME, "scale=laptop", "launcher=local")
    line = next(line for line in page.splitlines() if "budgets: " in line)
    assert f"{min(sizes):.3g} to {max(sizes):.3g} for each non-embedding parameter" in line


def test_the_cost_of_tuning_is_told_and_what_extensions_may_add(capsys: pytest.CaptureFixture[str]) -> None:
    given = (NAME, "scale=laptop", "launcher=local", "recipe.tune.round_seeds=[1,2]")
    plan = _json(capsys, *given)
    tuned = [run for run in plan["runs"] if run["stage"] != "compare"]
    assert plan["tuning"]["num_runs"] == len(tuned)
    assert {run["learning_rate"] for run in tuned if run["stage"] == "tune-2"} == {None}
    whole = sum(run["flops_train"] for run in plan["runs"])
    assert plan["tuning"]["share_of_flops"] == pytest.approx(sum(run["flops_train"] for run in tuned) / whole)
    page = _page(capsys, *given)
    assert f"{len(tuned)} runs, {plan['tuning']['share_of_flops']:.0%} of the training FLOPs" in page
    assert f"at most {plan['tuning']['most_extra_runs']} runs (" in page
    assert "the best of tune" in page
    assert _json(capsys, NAME, "scale=laptop", "launcher=local", *BY_RULE)["tuning"] is None
