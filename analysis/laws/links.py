"""Links from a loss to a downstream metric. They give the metric itself, which may reach 0, not its logarithm."""

from __future__ import annotations

from analysis.laws.autodiff import Jet
from analysis.laws.law import Law, Parameter, Symbols
from analysis.laws.terms import LOSS_IN, amplitude


def _exponential(p: Symbols, x: Symbols) -> Jet:
    return p["eps"] - (p["ln k"] - p["gamma"] * x["L"]).exp()


EXPONENTIAL_LINK = Law(
    name="exponential_link",
    formula="error = eps - k exp(-gamma L)",
    source="Gadre et al. 2024, arXiv 2403.08540, equation 5",
    columns=(LOSS_IN,),
    parameters=(
        Parameter(name="eps", meaning="error of a model that knows nothing", lower=-10.0, upper=10.0),
        amplitude("k", "what a loss of 0 would gain"),
        Parameter(
            name="gamma", meaning="how fast the gain fades with the loss", lower=0.0, upper=50.0,
            grid=(0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.2, 1.6, 2.2, 3.0, 4.5, 7.0, 12.0),
        ),
    ),
    form=_exponential,
    gives="value",
    linear=("eps", "k"),
)  # fmt: skip


def _sigmoid(p: Symbols, x: Symbols) -> Jet:
    # 1/(1 + e^-z) = exp(-softplus(-z)), exact at both ends
    return p["b"] + p["p0"] * (-((-(p["k"] * (x["L"] - p["x0"]))).softplus())).exp()


SIGMOID_LINK = Law(
    name="sigmoid_link",
    formula="accuracy = p0/(1 + exp(-k (L - x0))) + b",
    source="the Llama 3 report (Dubey et al. 2024, arXiv 2407.21783, section 3.2.1), L in bits per byte of the answer",
    columns=(LOSS_IN,),
    parameters=(
        Parameter(name="p0", meaning="height from chance to the top", lower=-10.0, upper=10.0),
        Parameter(
            name="k", meaning="steepness; below zero accuracy falls with the loss", lower=-200.0, upper=-1e-3,
            grid=(-0.5, -1.0, -2.0, -4.0, -8.0, -16.0, -32.0, -64.0),
        ),
        Parameter(
            name="x0", meaning="loss half way up", lower=-100.0, upper=100.0,
            grid=(-0.3, 0.0, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.3), relative_to="L",
        ),
        Parameter(name="b", meaning="accuracy of chance", lower=-10.0, upper=10.0),
    ),
    form=_sigmoid,
    gives="value",
    linear=("p0", "b"),
)  # fmt: skip
