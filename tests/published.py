"""The published tables that fits are held to, read where they lie; tests skip, saying so, where they do not."""

from __future__ import annotations

import os
from pathlib import Path

import pandas
import pytest

FOLDER = Path(os.environ.get("MEMSCALE_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data") / "published"
CHINCHILLA = FOLDER / "epoch_chinchilla_svg_extracted.csv"
ISOFLOPS = FOLDER / "openathena_isoflops.csv"
ROUTING = FOLDER / "deepmind_routing_curves.csv.gz"
TESTBED = FOLDER / "gadre_scaling_testbed_104.csv"

needs_published = pytest.mark.skipif(
    not all(path.is_file() for path in (CHINCHILLA, ISOFLOPS, ROUTING, TESTBED)),
    reason=f"the published tables are not in {FOLDER} (set MEMSCALE_DATA_DIR)",
)


def chinchilla(drop_highest: int = 5) -> pandas.DataFrame:
    """N, D = C/(6N) and loss of Epoch's points, without so many of the highest losses."""
    table = pandas.read_csv(CHINCHILLA).sort_values("loss", ascending=False).iloc[drop_highest:]
    params = table["Model Size"]
    return pandas.DataFrame({"N": params, "D": table["Training FLOP"] / (6 * params), "loss": table["loss"]})


def llama3(*, flagged: bool = True) -> pandas.DataFrame:
    table = pandas.read_csv(ISOFLOPS)
    table = table[table["experiment"] == "llama_3__raw_loss"]
    return table if flagged else table[~table["outlier"].astype(bool)]


def routed(router: str) -> pandas.DataFrame:
    """Final losses of one router and of the dense models; routing in every other layer, one expert, seed 42."""
    table = pandas.read_csv(ROUTING)
    table = table[(table["routing_frequency"] == 0.5) & (table["k"] == 1) & (table["seed"] == 42)]
    table = table.loc[table.groupby("hyper_id")["step"].idxmax()]
    return table[table["router_type"].isin([router, "Dense"])]


def overtrained() -> pandas.DataFrame:
    """Gadre et al.'s models trained on RedPajama; M is tokens per parameter."""
    table = pandas.read_csv(TESTBED)
    table = table[table["dataset_name"] == "rpj"].copy()
    table["C"], table["M"] = table["flops"].astype(float), table["D"] / table["N"]
    return table
