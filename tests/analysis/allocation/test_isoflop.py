"""Approaches 1 to 3: published frontiers, the known bias of a parabola, and surfaces whose optimum is known."""

from __future__ import annotations

import numpy as np
import pandas
import pytest

from analysis.allocation import parametric
from analysis.allocation.approaches import IsoFlopRuns, approaches
from analysis.allocation.curve import Method
from analysis.allocation.envelope import envelope, unbeaten
from analysis.allocation.isoflop import isoflop_frontier
from analysis.allocation.minima import budgets
from analysis.errors import FitError
from analysis.fitting import fit_law
from tests.published import ISOFLOPS, llama3, needs_published

Surface = tuple[float, float, float, float]
COLUMNS = ("params", "tokens", "budget", "loss")


def numbers(table: pandas.DataFrame) -> list[np.ndarray]:
    return [table[name].to_numpy(dtype=float) for name in COLUMNS]


def true_split(surface: Surface, flops: float) -> tuple[float, float]:
    A, B, alpha, beta = surface
    params = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))
    return params, flops / 6 / params


def points(surface: Surface, *, noise: float = 0.0, seed: int = 0, num: int = 15) -> list[np.ndarray]:
    """Five budgets, sizes from a sixteenth of the best tokens to sixteen times."""
    A, B, alpha, beta = surface
    rows = []
    for flops in np.logspace(17, 21, 5):
        tokens = true_split(surface, flops)[1] * np.geomspace(1 / 16, 16, num)
        params = flops / 6 / tokens
        rows += [(n, d, flops, 1.69 + A / n**alpha + B / d**beta) for n, d in zip(params, tokens, strict=True)]
    table = np.array(rows).T
    table[3] *= np.exp(noise * np.random.default_rng(seed).standard_normal(len(rows)))
    return list(table)


@needs_published
def test_llama_3_has_the_published_frontier() -> None:
    found = isoflop_frontier(*numbers(llama3()), method="parabola")
    assert found.params.exponent == pytest.approx(0.4632, abs=5e-5)
    assert found.tokens.exponent == pytest.approx(0.5368, abs=5e-5)
    assert found.tokens.at(3.8e25) == pytest.approx(16.1e12, abs=5e10)
    assert len(found.used) == 10
    kept = isoflop_frontier(*numbers(llama3(flagged=False)), method="parabola")
    assert kept.params.exponent == pytest.approx(0.5, abs=5e-5)
    assert kept.tokens.at(3.8e25) == pytest.approx(9.8e12, abs=5e10)


@needs_published
def test_an_accounting_in_which_flops_are_not_six_nd_has_exponents_that_do_not_add_up() -> None:
    table = pandas.read_csv(ISOFLOPS)
    found = isoflop_frontier(*numbers(table[table["experiment"] == "marin_202603__comma__llama_2"]), method="parabola")
    assert found.params.exponent == pytest.approx(0.405, abs=5e-4)
    assert found.tokens.exponent == pytest.approx(0.572, abs=5e-4)


@pytest.mark.parametrize(
    "alpha, beta, found, true",
    [(0.31, 0.31, None, None), (0.34, 0.28, -0.5781, -0.555357), (0.465, 0.155, -1.4600, -1.345791)],
)
def test_a_parabola_is_biased_in_the_intercept_and_not_in_the_slope(
    alpha: float, beta: float, found: float | None, true: float | None
) -> None:
    surface = (406.4, 410.7, alpha, beta)
    frontier = isoflop_frontier(*points(surface), method="parabola")
    assert frontier.tokens.exponent == pytest.approx(alpha / (alpha + beta), abs=1e-9)
    assert frontier.params.exponent == pytest.approx(beta / (alpha + beta), abs=1e-9)
    exact = np.log10(true_split(surface, 1.0)[1])
    if found is None:
        assert frontier.tokens.intercept == pytest.approx(exact, abs=1e-9)
    else:
        assert exact == pytest.approx(true, abs=1e-6)
        assert frontier.tokens.intercept == pytest.approx(found, abs=1e-4)


SURFACE = (406.4, 410.7, 0.34, 0.28)


@pytest.mark.parametrize("seed", range(4))
def test_all_approaches_find_a_known_surface_within_their_bands(seed: int) -> None:
    params, tokens, flops, loss = points(SURFACE, noise=2e-3, seed=seed)
    runs = IsoFlopRuns(params=params, tokens=tokens, flops=flops, loss=loss)
    found = approaches(runs, flops=[1e20, 1e23])
    assert not found.missing
    truth = SURFACE[3] / (SURFACE[2] + SURFACE[3])
    assert found.isoflop is not None
    assert found.isoflop.params.exponent_ci95 is not None
    lower, upper = found.isoflop.params.exponent_ci95
    assert lower - 0.02 < truth < upper + 0.02
    assert upper - lower < 0.1
    for split in found.allocations:
        assert split.params_ci95 is not None
        lower, upper = (np.log(end) for end in split.params_ci95)
        slack = 0.5 * (upper - lower)  # of four seeds one may lie outside
        assert lower - slack < np.log(true_split(SURFACE, split.flops)[0]) < upper + slack
    assert found.allocations[1].extrapolation > 50


@pytest.mark.parametrize("method", ["window", "parabola", "akima"])
def test_a_budget_whose_minimum_lies_at_an_edge_is_left_out_and_said(method: Method) -> None:
    params, tokens, flops, loss = points(SURFACE)
    best = true_split(SURFACE, float(flops[0]))[0]
    kept = (flops != flops[0]) | (params > 1.5 * best)
    found = isoflop_frontier(params[kept], tokens[kept], flops[kept], loss[kept], method=method)
    assert [bool(one.reason) for one in found.minima] == [True, False, False, False, False]
    assert "smallest" in found.minima[0].reason
    whole = isoflop_frontier(params, tokens, flops, loss, method=method)
    assert found.params.exponent == pytest.approx(whole.params.exponent, abs=0.02)


def test_akima_finds_a_minimum_between_the_sizes() -> None:
    params, tokens, flops, loss = points(SURFACE, num=25)
    found = isoflop_frontier(params, tokens, flops, loss, method="akima")
    for one in found.minima:
        assert one.params == pytest.approx(true_split(SURFACE, one.flops)[0], rel=0.02)


def test_without_two_budgets_there_is_no_frontier_and_the_reasons_are_given() -> None:
    params, tokens, flops, loss = points(SURFACE)
    first = flops == flops[0]
    with pytest.raises(FitError, match="at least 2 budgets"):
        isoflop_frontier(params[first], tokens[first], flops[first], loss[first])
    small = params < np.array([true_split(SURFACE, one)[0] for one in flops]) / 2
    with pytest.raises(FitError, match="above the largest"):
        isoflop_frontier(params[small], tokens[small], flops[small], loss[small])


def test_budgets_are_told_apart_by_their_gaps() -> None:
    flops = np.array([1e18, 3e19, 1.01e18, 0.99e18, 2.9e19])
    assert [sorted(group.tolist()) for group in budgets(flops)] == [[0, 2, 3], [1, 4]]


def test_the_envelope_holds_the_runs_that_no_cheaper_run_beats() -> None:
    flops, loss = np.array([1.0, 1.0, 2.0, 3.0, 4.0]), np.array([3.0, 2.5, 2.6, 2.0, 2.0])
    assert unbeaten(flops, loss).tolist() == [1, 3]
    found = envelope(*points(SURFACE))
    assert found.params.exponent == pytest.approx(SURFACE[3] / (SURFACE[2] + SURFACE[3]), abs=0.02)


def test_a_split_of_any_law_agrees_with_the_closed_form() -> None:
    params, tokens, _, loss = points(SURFACE)
    columns = {"N": params, "D": tokens}
    closed = fit_law("chinchilla", columns, loss)
    searched = fit_law("sum_of_powers(N, D)", columns, loss)
    given = [parametric.compute_optimal_allocation(law, [1e18, 1e22]) for law in (closed, searched)]
    for one, other in zip(*given, strict=True):
        assert one.params == pytest.approx(true_split(SURFACE, one.flops)[0], rel=1e-4)
        assert other.params == pytest.approx(one.params, rel=1e-3)
        assert one.params * one.tokens * 6 == pytest.approx(one.flops)


def test_a_law_of_compute_alone_has_no_split() -> None:
    params, tokens, flops, loss = points(SURFACE)
    with pytest.raises(FitError, match="needs a law of N and D"):
        parametric.compute_optimal_allocation(fit_law("power_with_offset", {"x": flops}, loss), [1e20])
    with pytest.raises(FitError, match="above 0"):
        parametric.compute_optimal_allocation(fit_law("chinchilla", {"N": params, "D": tokens}, loss), [-1.0])
