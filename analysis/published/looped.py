"""The published fits of looped models (arXiv 2604.21106) held against each other; its 116 runs are not at hand.

It prints a Chinchilla law for each number of recurrences r, and one law of them all, in which a parameter that r
recurrences use counts as r^phi parameters. What the four laws say of models around the optimum of each compute budget
stands for the runs: the joint law fitted to it has the printed phi, and the printed joint law explains it.

Its models: prelude and coda of 2 layers, 16 / r recurrent layers of 12 d^2 parameters, an injection of 2 d^2; N(r) =
(48 + 192 / r + 2) d^2. FLOPs are taken as 6 per parameter used and token, with the injection used r times.
"""

from __future__ import annotations

import numpy as np

from analysis.fitting import fit_law
from analysis.inference.result import Fit
from analysis.laws.constraints import held
from analysis.laws.law import FloatArray
from analysis.laws.registry import LAWS
from analysis.published.comparison import Comparison, Line, lines
from analysis.published.fits import Find
from analysis.published.sources import find

JOINT = {"phi": 0.459, "alpha": 0.199, "beta": 0.369, "E": 1.57}
"""The joint law's coefficients; A and B are not printed."""
PHI_INTERVAL = (0.41, 0.53)
R2 = "0.9972"
AT_PHI = {0.0: {"alpha": 0.227, "beta": 0.390, "E": 1.71}, 1.0: {"alpha": 0.218, "beta": 0.410, "E": 1.66}}
"""The same law with phi held."""
PER_RECURRENCE = {
    1: {"A": 58.0, "alpha": 0.251, "B": 150.0, "beta": 0.267, "E": 1.56},
    2: {"A": 33.0, "alpha": 0.216, "B": 910.0, "beta": 0.365, "E": 1.60},
    4: {"A": 23.0, "alpha": 0.191, "B": 1300.0, "beta": 0.388, "E": 1.56},
    8: {"A": 41.0, "alpha": 0.235, "B": 780.0, "beta": 0.362, "E": 1.69},
}
"""Recurrences -> the Chinchilla law of models with as many, by their stored parameters."""
BEHIND = {2: (0.03, 0.06), 4: (0.05, 0.08), 8: (0.09, 0.12)}
"""Recurrences -> nats by which the best models lie behind those without recurrences at equal compute, as ranges."""
COMPUTE, RANGE = 1e18, (1e17, 1e19)
"""FLOPs at which the gaps are taken, and between which the joint law is fitted: ours; the paper's are not at hand."""

_WIDTHS = np.geomspace(64, 8192, 4001)


def params_once(d: FloatArray) -> FloatArray:
    """Non-embedding parameters of prelude and coda at width d."""
    return 48 * d**2


def params_recurrent(d: FloatArray, r: int) -> FloatArray:
    """Parameters that every recurrence uses at width d: 16 / r layers and the injection."""
    return (192 / r + 2) * d**2


def tokens_at(flops: float, d: FloatArray, r: int) -> FloatArray:
    """Tokens that a model of width d trains on for `flops` FLOPs."""
    return flops / (6 * (params_once(d) + r * params_recurrent(d, r)))


def loss_at(flops: float, d: FloatArray, r: int) -> FloatArray:
    """Loss of models of width d with r recurrences at `flops` FLOPs, by the law printed for r."""
    columns = {"N": params_once(d) + params_recurrent(d, r), "D": tokens_at(flops, d, r)}
    return LAWS["chinchilla"].predict(PER_RECURRENCE[r], columns)


def published_runs(low: float, high: float) -> tuple[dict[str, FloatArray], FloatArray]:
    """What the four printed laws say of five widths around the best, at six budgets from `low` to `high` FLOPs."""
    columns: dict[str, list[FloatArray]] = {"N_once": [], "N_rec": [], "D": [], "r": []}
    losses: list[FloatArray] = []
    for r in PER_RECURRENCE:
        for flops in np.geomspace(low, high, 6):
            best = _WIDTHS[int(np.argmin(loss_at(flops, _WIDTHS, r)))]
            d = best * np.geomspace(0.6, 1 / 0.6, 5)
            columns["N_once"].append(params_once(d))
            columns["N_rec"].append(params_recurrent(d, r))
            columns["D"].append(tokens_at(flops, d, r))
            columns["r"].append(np.full(len(d), float(r)))
            losses.append(loss_at(flops, d, r))
    return {name: np.concatenate(parts) for name, parts in columns.items()}, np.concatenate(losses)


def joint_fit(low: float, high: float, *, printed: bool = False) -> Fit:
    """The joint law fitted to `published_runs`; `printed`: with all but A and B held at what is printed."""
    columns, losses = published_runs(low, high)
    law = held(LAWS["looped"], JOINT) if printed else LAWS["looped"]
    return fit_law(law, columns, losses, objective="log_lsq")


def looped(where: Find = find) -> Comparison:
    """The gaps to models without recurrences, phi, and what of the losses the printed joint law explains."""
    del where  # all of it is printed numbers
    least = float(loss_at(COMPUTE, _WIDTHS, 1).min())
    found = [
        Line(
            what=f"nats behind r = 1 at {COMPUTE:g} FLOPs, r = {r}",
            published=(low + high) / 2,
            ours=float(loss_at(COMPUTE, _WIDTHS, r).min()) - least,
            tolerance=(high - low) / 2 + 0.005,
        )
        for r, (low, high) in BEHIND.items()
    ]
    free, printed = joint_fit(*RANGE), joint_fit(*RANGE, printed=True)
    found.append(
        Line(
            what="phi of the joint law, fitted to the four",
            published=JOINT["phi"],
            ours=free.values["phi"],
            tolerance=min(abs(end - JOINT["phi"]) for end in PHI_INTERVAL),
        )
    )
    columns, losses = published_runs(*RANGE)
    left = float(np.sum((printed.predict(columns) - losses) ** 2) / np.sum((losses - losses.mean()) ** 2))
    (explained,) = lines([("R2 of the printed joint law on the four", R2)], [1 - left])
    found.append(Line(what=explained.what, published=explained.published, ours=explained.ours, tolerance=0.002))
    return Comparison(
        name="looped",
        title="The law of looped models, against its own laws for each number of recurrences",
        source="arXiv 2604.21106",
        lines=tuple(found),
        notes=(
            "the printed gaps are ranges over compute: held to their ends and half a digit; phi to its nearer 95 % end",
            "models, losses and FLOPs are those that the printed laws give, from "
            f"{RANGE[0]:g} to {RANGE[1]:g} FLOPs; over other ranges phi comes out at 0.39 to 0.46",
            f"at the printed phi, alpha, beta and E, A is {printed.values['A']:.3g} and B {printed.values['B']:.3g}",
        ),
    )
