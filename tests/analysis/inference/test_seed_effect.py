"""What a seed shares over the series is found where it is there, and its analysis is that of the textbook."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.inference.seed_effect import SeedEffect, bartlett, seed_effect
from analysis.inference.variance_components import estimate

NUM_SERIES, NUM_BUDGETS, NUM_SEEDS = 3, 3, 4
SERIES, BUDGET, SEED = (
    one.ravel() for one in np.meshgrid(*map(np.arange, (NUM_SERIES, NUM_BUDGETS, NUM_SEEDS)), indexing="ij")
)
CELL, BLOCK, UNIT = SERIES * NUM_BUDGETS + BUDGET, BUDGET * NUM_SEEDS + SEED, SERIES * NUM_SEEDS + SEED


def values(seed: int, *, shared: float, series: float = 0.0, own: float = 1.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    u, v, e = (random.standard_normal(size) for size in (BLOCK.max() + 1, UNIT.max() + 1, len(CELL)))
    return np.asarray(shared * u[BLOCK] + series * v[UNIT] + own * e)


def found(value: np.ndarray, keep: np.ndarray | None = None) -> SeedEffect | None:
    chosen = np.ones(len(CELL), dtype=bool) if keep is None else keep
    cell = np.unique(CELL[chosen], return_inverse=True)[1]
    residual = value[chosen] - (np.bincount(cell, value[chosen]) / np.bincount(cell))[cell]
    return seed_effect(residual, cell_N=cell, level_N=BUDGET[chosen], block_N=BLOCK[chosen], unit_N=UNIT[chosen])


def between(subject: int, baseline: int, budgets: tuple[int, ...]) -> np.ndarray:
    at = np.isin(BUDGET, budgets) / (NUM_SEEDS * len(budgets))
    return np.asarray(at * (np.equal(SERIES, subject).astype(float) - np.equal(SERIES, baseline)))


def test_a_mean_difference_has_the_exact_t_interval_of_an_analysis_of_variance() -> None:
    value = values(0, shared=3.0, series=0.7)
    effect = found(value)
    assert effect is not None
    noise = effect.contrast(between(0, 1, (0, 1, 2)))
    # By hand: series x seed after averaging over budgets.
    mean = value.reshape(NUM_SERIES, NUM_BUDGETS, NUM_SEEDS).mean(axis=1)
    about = mean - mean.mean(axis=0) - mean.mean(axis=1, keepdims=True) + mean.mean()
    degrees = (NUM_SERIES - 1) * (NUM_SEEDS - 1)
    assert noise.degrees == pytest.approx(degrees)
    assert noise.std == pytest.approx(np.sqrt(2 / NUM_SEEDS * (about**2).sum() / degrees))


def test_a_difference_at_one_budget_is_free_of_the_seed() -> None:
    value = values(1, shared=3.0)
    effect = found(value)
    other = found(value + 100 * np.random.default_rng(5).standard_normal(BLOCK.max() + 1)[BLOCK])
    assert effect is not None
    assert other is not None
    for budgets in ((2,), (0, 1, 2)):
        one, two = effect.contrast(between(0, 1, budgets)), other.contrast(between(0, 1, budgets))
        assert one.std == pytest.approx(two.std)
        assert one.degrees == pytest.approx(two.degrees)


def test_the_mean_of_one_series_keeps_what_its_seeds_share() -> None:
    effects = [effect for seed in range(40) if (effect := found(values(seed, shared=3.0))) is not None]
    own = np.where((SERIES == 0) & (BUDGET == 1), 1 / NUM_SEEDS, 0.0)
    variance = np.mean([effect.contrast(own).std ** 2 for effect in effects])
    assert variance == pytest.approx((9 + 1) / NUM_SEEDS, rel=0.2)


def test_the_rule_takes_the_effect_where_it_is_there_and_mostly_not_where_it_is_not() -> None:
    assert sum(found(values(seed, shared=3.0)) is not None for seed in range(100)) == 100
    # A test at 5 %: four standard errors.
    assert 0 < sum(found(values(seed, shared=0.0)) is not None for seed in range(100)) <= 14


def test_missing_runs_leave_the_variances_unbiased() -> None:
    random, variance = np.random.default_rng(3), []
    for seed in range(200):
        keep = random.random(len(CELL)) > 0.15
        effect = found(values(seed, shared=4.0, series=1.0), keep)
        if effect is None:
            continue
        # A difference of two runs that share their seed has the variance 2 (var v + var e) = 4.
        pair = np.flatnonzero(keep & np.equal(BLOCK, BLOCK[keep][0]))[:2]
        if len(pair) == 2:
            weight = np.zeros(len(CELL))
            weight[pair] = 1.0, -1.0
            variance.append(effect.contrast(weight[keep]).std ** 2)
    assert len(variance) > 100
    assert np.mean(variance) == pytest.approx(4.0, rel=0.15)


def test_series_without_common_seeds_have_no_effect() -> None:
    residual = values(0, shared=3.0)
    own = np.arange(len(CELL))
    assert seed_effect(residual, cell_N=CELL, level_N=BUDGET, block_N=own, unit_N=UNIT) is None


def test_two_series_of_two_seeds_leave_too_few_degrees_of_freedom() -> None:
    keep = (SERIES < 2) & (SEED < 2)
    assert found(values(0, shared=5.0), keep) is None


def test_noise_that_grows_is_not_pooled() -> None:
    value = values(2, shared=3.0) * np.array([1.0, 10.0, 100.0])[BUDGET]
    effect = found(value)
    assert effect is not None
    assert effect.is_uneven
    stds = [effect.contrast(between(0, 1, (budget,))).std for budget in range(NUM_BUDGETS)]
    assert 4 < stds[1] / stds[0] < 25
    assert 4 < stds[2] / stds[1] < 25


def test_contrasts_of_the_noise_model_use_it() -> None:
    value = values(4, shared=3.0)
    arguments = {"cell_N": CELL, "level_N": BUDGET, "unit_N": UNIT, "series_N": SERIES}
    paired, plain = estimate(value, **arguments, block_N=BLOCK), estimate(value, **arguments)
    assert paired is not None
    assert plain is not None
    weight = between(0, 1, (0, 1, 2))
    assert paired.contrast(weight).std < 0.6 * plain.contrast(weight).std
    assert paired.at_least(50.0).contrast(weight).std > 20 * paired.contrast(weight).std


def test_bartlett_agrees_with_its_definition() -> None:
    square, degrees = np.array([4.0, 40.0, 7.0]), np.array([5, 6, 7])
    # scipy.stats.bartlett of samples with these variances gives the same number.
    from scipy.stats import bartlett as reference

    samples = []
    for total, count in zip(square, degrees + 1, strict=True):
        ranks = np.arange(count) - (count - 1) / 2
        samples.append(ranks * np.sqrt(total / (ranks**2).sum()))
    assert bartlett(square, degrees) == pytest.approx(reference(*samples).pvalue)
