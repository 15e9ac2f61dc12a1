"""`python -m analysis fit` and `isoflop` on anybody's table: the card, the words, the figures, and no heavy imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis.cli.main import main
from tests.published import CHINCHILLA, needs_published

SURFACE = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
COLUMNS = ["--params", "Model Size", "--flops", "Training FLOP", "--loss", "loss"]


def written(path: Path, *, seeds: int = 2, header: str = "size,tokens,loss,seed,data") -> Path:
    random = np.random.default_rng(0)
    rows = [header]
    for params in np.geomspace(1e7, 1e9, 6):
        for tokens in np.geomspace(1e9, 3e10, 5):
            exact = 1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28
            rows += [
                f"{params:.6e},{tokens:.6e},{exact * (1 + 2e-3 * random.standard_normal()):.6f},{seed},c4"
                for seed in range(seeds)
            ]
    path.write_text("\n".join(rows) + "\n")
    return path


MAPPED = ["--params", "size", "--tokens", "tokens", "--loss", "loss"]


@needs_published
def test_the_published_table_as_it_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card, figures = tmp_path / "out.json", tmp_path / "figures"
    arguments = ["fit", str(CHINCHILLA), "--law", "chinchilla", *COLUMNS, "--objective", "log_huber", "--delta", "1e-3"]
    arguments += ["--drop-highest", "5", "--bootstrap", "4000", "--seed", "0"]
    assert main([*arguments, "--json", str(card), "--figures", str(figures)]) == 0
    said = capsys.readouterr().out
    assert "A          477.8" in said
    assert "5 by drop-highest 5 (of 245 rows)" in said
    assert "D = C / (6 N)" in said
    found = json.loads(card.read_text())
    assert found["law"] == "chinchilla"
    assert found["n"] == 240
    assert set(found["coefficients"]["A"]) == {"value", "se", "ci80", "ci95", "at_bound", "identified"}
    assert found["objective"] == {"name": "log_huber", "delta": 1e-3, "value": pytest.approx(0.0010182740178006)}
    assert found["starts"]["share_at_best"] == 1.0
    assert [one["rule"] for one in found["exclusions"]] == ["drop-highest 5"] * 5
    assert found["coefficients"]["a"]["value"] == pytest.approx(0.5139, abs=5e-5)
    assert len(found["allocation"]["optima"]) == 3
    assert found["seconds"] > 0
    assert {path.name for path in figures.iterdir()} == {
        f"{stem}.{kind}"
        for stem in ("residuals", "profiles", "bootstrap", "best_split")
        for kind in ("png", "pdf", "csv")
    }


def test_words_and_json_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(written(tmp_path / "t.csv"))
    arguments = ["fit", table, "--law", "chinchilla", *MAPPED, "--flops-at", "1e20,1e21"]
    assert main([*arguments, "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert main(arguments) == 0
    said = capsys.readouterr().out
    for name, value in SURFACE.items():
        lower, upper = card["coefficients"][name]["ci95"]
        assert lower - (upper - lower) < value < upper + (upper - lower)
        assert name in said
    assert [one["flops"] for one in card["allocation"]["optima"]] == [1e20, 1e21]
    assert card["replicated_settings"] == 30
    assert "30 of 30 settings have several runs" in said


def test_groups_are_resampled_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(written(tmp_path / "t.csv"))
    widths = []
    for cluster in ([], ["--cluster", "size"]):
        arguments = ["fit", table, "--law", "chinchilla", *MAPPED, "--bootstrap", "300", *cluster, "--json"]
        assert main(arguments) == 0
        card = json.loads(capsys.readouterr().out)
        lower, upper = card["coefficients"]["alpha"]["ci95"]
        widths.append(upper - lower)
        assert card["intervals"]["cluster"] == (cluster[1] if cluster else None)
    assert widths[0] != widths[1]


def test_other_laws_read_factors_and_fixed_parameters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(written(tmp_path / "t.csv"))
    arguments = ["fit", table, "--law", "sum_of_powers(N, D)", *MAPPED, "--fix", "E=1.69", "--json"]
    assert main(arguments) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["fixed"] == ["E"]
    assert card["coefficients"]["alpha_N"]["value"] == pytest.approx(0.34, abs=0.03)
    assert main(["fit", table, "--law", "power", "--loss", "loss", "--factor", "x=tokens"]) == 0
    assert "power: L = A x^-alpha" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--law", "chinchila", *MAPPED], "no law 'chinchila'. Known:"),
        (
            ["--law", "chinchilla", "--params", "size", "--loss", "loss"],
            "reads columns that are not mapped (D: training",
        ),
        (["--law", "chinchilla", "--params", "Size", "--tokens", "tokens", "--loss", "loss"], "Did you mean 'size'?"),
        (["--law", "chinchilla", *MAPPED, "--where", "loss < 0"], "all 60 rows are left out"),
        (["--law", "chinchilla", *MAPPED, "--where", "data == 'pile'"], "all 60 rows are left out"),
        (["--law", "chinchilla", *MAPPED, "--drop-highest", "60"], "leaves nothing of 60 rows"),
        (["--law", "chinchilla", *MAPPED, "--fix", "E=big"], "--fix E=big: write it as NAME=NUMBER"),
        (["--law", "chinchilla", *MAPPED, "--flops-at", "many"], "--flops-at many"),
        (["--law", "chinchilla", *MAPPED, "--objective", "log_lsq", "--delta", "1"], "has no delta"),
        (MAPPED, "no law is named"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["fit", str(written(tmp_path / "t.csv")), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_isoflop_shows_all_approaches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["N,D,C,loss"]
    for flops in (1e18, 1e19, 1e20):
        for params in np.sqrt(flops / 120) * np.geomspace(0.2, 5, 9):
            tokens = flops / 6 / params
            rows.append(f"{params},{tokens},{flops},{1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28}")
    table = tmp_path / "iso.csv"
    table.write_text("\n".join(rows))
    arguments = ["isoflop", str(table), "--params", "N", "--tokens", "D", "--flops", "C", "--loss", "loss"]
    assert main([*arguments, "--bootstrap", "50", "--json", str(tmp_path / "iso.json")]) == 0
    said = capsys.readouterr().out
    assert all(f"approach {one}" in said for one in ("1 (envelope)", "2 (isoFLOP, parabola)", "3 (law)"))
    card = json.loads((tmp_path / "iso.json").read_text())
    assert card["approaches"]["3 (law)"]["coefficients"]["a"]["value"] == pytest.approx(0.28 / 0.62, abs=1e-3)
    assert card["approaches"]["2 (isoFLOP, parabola)"]["a"]["exponent"] == pytest.approx(0.28 / 0.62, abs=2e-2)
    assert main([*arguments, "--bootstrap", "50", "--figures", str(tmp_path / "figures")]) == 0
    assert (tmp_path / "figures" / "isoflop_curves.png").is_file()


def test_a_table_is_fitted_where_nothing_of_the_platform_is_installed(tmp_path: Path) -> None:
    """Nothing beside numpy, pandas, scipy, matplotlib and pyarrow may be imported."""
    table = str(written(tmp_path / "t.csv"))
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in "torch mlflow hydra numba lm_eval submitit openpyxl polars memscale".split():
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Absent())
from analysis.cli.main import main
sys.exit(main(["fit", {table!r}, "--law", "chinchilla", "--params", "size", "--tokens", "tokens", "--loss", "loss",
               "--bootstrap", "20", "--json", {str(tmp_path / "o.json")!r}, "--figures", {str(tmp_path / "f")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "o.json").read_text())["n"] == 60


def test_the_platforms_commands_say_what_to_install() -> None:
    code = """
import sys
for name in ("torch", "hydra", "omegaconf", "yaml", "mlflow"):
    sys.modules[name] = None
from memscale.cli.main import main
sys.exit(main(["plan", "memory_vs_moe"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "make setup" in done.stderr
    assert "Traceback" not in done.stderr


def test_verbs_are_listed_and_mistyped_ones_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "isoflop" in capsys.readouterr().out
    assert main(["isoflp"]) == 2
    assert "Did you mean 'isoflop'?" in capsys.readouterr().err
