"""Published fits made again: each function reads its data, fits as its authors did, and lays both side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.allocation.isoflop import isoflop_frontier
from analysis.fitting import fit_law
from analysis.laws.registry import LAWS
from analysis.published import sources
from analysis.published.comparison import Comparison, Line, lines
from analysis.published.sources import Source, find
from analysis.tables import Observations, observe, read

FloatArray = npt.NDArray[np.float64]
Find = Callable[[Source], Path]


def chinchilla(where: Find = find, *, num_replicates: int = 4000) -> Comparison:
    """Besiroglu et al. 2024: Hoffmann et al.'s Figure 4, the five highest losses left out."""
    runs = read(where(sources.CHINCHILLA))

    def points(dropped: int) -> Observations:
        return observe(
            runs, loss="loss", params="Model Size", flops="Training FLOP", tokens_from_flops=True, drop_highest=dropped
        )

    def columns(table: Observations) -> dict[str, FloatArray]:
        return {name: table.columns[name] for name in ("N", "D")}

    table = points(5)
    least = fit_law("chinchilla", columns(table), table.loss, bootstrap=num_replicates)
    free = fit_law("chinchilla", columns(table), table.loss, objective="free_huber").values
    found = list(
        lines(
            [("optimum of the objective", "0.0010182740178")],
            [least.value],
        )
    )
    names = ("A", "B", "E", "alpha", "beta", "a")
    printed = ("482.006", "2085.434", "1.81686", "0.34781", "0.36585", "0.5126")
    found += lines([(f"{name}, free scale", text) for name, text in zip(names, printed, strict=True)],
                   [free[name] for name in names])  # fmt: skip
    intervals = {"A": (285, 744), "B": (1042, 5810), "E": (1.769, 1.871), "alpha": (0.317, 0.373),
                 "beta": (0.331, 0.415), "a": (0.481, 0.556)}  # fmt: skip
    for name, ends in intervals.items():
        ours, width = least.coefficient(name).ci95, ends[1] - ends[0]
        found += [
            Line(what=f"{name}, {side} end of 95 %", published=end, ours=value, tolerance=0.05 * width)
            for side, end, value in zip(("lower", "upper"), ends, ours, strict=True)
        ]
    for dropped, text in ((0, "0.565"), (1, "0.544"), (3, "0.524"), (5, "0.514"), (12, "0.505")):
        kept = points(dropped)
        value = fit_law("chinchilla", columns(kept), kept.loss).values["a"]
        found += lines([(f"a without the {dropped} highest losses", text)], [value])
    return Comparison(
        name="chinchilla",
        title="Chinchilla's parametric fit, replicated from its figure",
        source="Besiroglu et al. 2024, arXiv 2404.10102",
        lines=tuple(found),
        notes=("ends of intervals are random: they are held to 5 % of the interval's width",),
    )


def llama3(where: Find = find) -> Comparison:
    """Open-Athena's isoFLOP points of the Llama 3 report."""
    runs = read(where(sources.ISOFLOPS))
    chosen = "experiment == 'llama_3__raw_loss'"
    every, kept = (
        observe(runs, loss="loss", params="params", tokens="tokens", flops="budget", where=where_)
        for where_ in (chosen, f"{chosen} and not outlier")
    )

    def frontier(table: Observations) -> tuple[float, float, float]:
        columns = table.columns
        found = isoflop_frontier(columns["N"], columns["D"], columns["C"], table.loss, method="parabola")
        return found.params.exponent, found.tokens.exponent, found.tokens.at(3.8e25) / 1e12

    law = fit_law(
        "chinchilla", {name: every.columns[name] for name in ("N", "D")}, every.loss, objective="log_lsq"
    ).values
    found = [
        *lines(
            [("approach 2, a", "0.4632"), ("approach 2, b", "0.5368"), ("D*(3.8e25), trillions", "16.1")],
            frontier(every),
        ),
        *lines(
            [("without flagged points, a", "0.5000"), ("without flagged points, D*(3.8e25), trillions", "9.8")],
            [frontier(kept)[0], frontier(kept)[2]],
        ),
        *lines(
            [("approach 3, E", "0.6021"), ("approach 3, alpha", "0.3068"), ("approach 3, beta", "0.3110")],
            [law["E"], law["alpha"], law["beta"]],
        ),
    ]
    return Comparison(
        name="llama3",
        title="Llama 3's isoFLOP curves",
        source="Open-Athena, scaling-law-analysis; data of Dubey et al. 2024, arXiv 2407.21783",
        lines=tuple(found),
    )


ROUTING = {
    "S-Base": ("-0.083", "-0.118", "0.0099", "1.114", "2.1", "239"),
    "RL-R": ("-0.0827", "-0.1234", "0.0112", "1.107", "1.7", "470"),
    "Hash": ("-0.0874", "-0.1384", "0.0126", "1.160", "4.3", "427"),
}


def routing(where: Find = find) -> Comparison:
    """Clark et al. 2022: final losses, routing in every other layer, one expert, seed 42, dense models among them."""
    runs = read(where(sources.ROUTING))
    found: list[Line] = []
    names = ("a", "b", "c", "d", "Es", "Em")
    for router, printed in ROUTING.items():
        columns, loss = routed(runs, router)
        values = fit_law("routed", columns, loss, objective="log_lsq").values
        found += lines([(f"{router}, {name}", text) for name, text in zip(names, printed, strict=True)],
                       [values[name] for name in names])  # fmt: skip
    return Comparison(
        name="routing",
        title="Unified scaling laws for routed language models",
        source="Clark et al. 2022, arXiv 2202.01169",
        lines=tuple(found),
    )


def routed(runs: pd.DataFrame, router: str) -> tuple[dict[str, FloatArray], FloatArray]:
    """The columns of the routing law and the losses, of one router and the dense models."""
    chosen = (runs["routing_frequency"] == 0.5) & (runs["k"] == 1) & (runs["seed"] == 42)
    chosen &= runs["router_type"].isin([router, "Dense"])
    last = runs[chosen].sort_values("step").groupby("hyper_id").tail(1).sort_values("hyper_id")
    columns = {"N": last["dense_parameter_count"], "E": last["num_experts"]}
    return {name: _floats(values) for name, values in columns.items()}, _floats(last["loss_validation"])


def _floats(column: pd.Series) -> FloatArray:
    return column.to_numpy(dtype=np.float64, copy=True)


def overtraining(where: Find = find) -> Comparison:
    """Gadre et al. 2024: five small runs predict the loss of large and over-trained ones, and a link their errors."""
    runs = read(where(sources.TESTBED))
    own = runs[runs["dataset_name"] == "rpj"]
    params, tokens, flops, loss, error = (
        _floats(own[name]) for name in ("N", "D", "flops", "loss_c4_val", "err_avg_subset")
    )
    ratio = tokens / params
    rounded = ratio.round()
    small = np.isin(params, [10569312, 78914048, 153677376, 411616256])
    five = ((rounded == 20) & small) | ((rounded == 320) & (params == 10569312))
    six = five | ((rounded == 20) & (params == 1439795200))
    law = fit_law(LAWS["overtrained"], {"C": flops[five], "M": ratio[five]}, loss[five], objective="lsq")
    link = fit_law(LAWS["exponential_link"], {"L": loss[six]}, error[six], objective="lsq")
    found = [
        *lines([("E", "1.83665"), ("exponent of C", "-0.27285")], [law.values["E"], -2 * law.values["eta"]]),
        *lines(
            [("error of knowing nothing", "0.8570"), ("k", "2.2065"), ("gamma", "0.7146")],
            [link.values[name] for name in ("eps", "k", "gamma")],
        ),
    ]
    for size, times, printed in ((1439795200, 640, ("0.7103", "3.6365")), (6889410560, 20, ("0.7320", "0.0464"))):
        held = (params == size) & (rounded == times)
        predicted = law.predict({"C": flops[held], "M": ratio[held]})
        off = 100 * abs(predicted[0] / loss[held][0] - 1)
        task = 100 * abs(link.predict({"L": predicted})[0] / error[held][0] - 1)
        label = f"{size / 1e9:.1f}B at {times} tokens per parameter"
        found += lines([(f"{label}: loss, % off", printed[0]), (f"{label}: 17 tasks, % off", printed[1])], [off, task])
    return Comparison(
        name="overtraining",
        title="Language models scale reliably with over-training and on downstream tasks",
        source="Gadre et al. 2024, arXiv 2403.08540",
        lines=tuple(found),
    )
