from __future__ import annotations

import math

import numpy as np
import pytest

from memscale.evaluation.scores import number_or_none, ratio_stderr


def test_what_is_no_number_is_none() -> None:
    assert [number_or_none(given) for given in ("N/A", None, math.nan, math.inf, True)] == [None] * 5
    assert number_or_none(0.25) == 0.25
    assert number_or_none(np.float64(0.5)) == 0.5


def test_the_ratio_of_equal_denominators_is_a_mean() -> None:
    values = [0.3, 1.7, 0.9, 2.4]
    expected = np.std(values, ddof=1) / math.sqrt(len(values)) / 5
    assert ratio_stderr(values, [5.0] * 4) == pytest.approx(expected, rel=1e-12)


def test_the_ratio_agrees_with_a_bootstrap() -> None:
    generator = np.random.default_rng(0)
    bytes_N = generator.uniform(500, 2000, 400)
    nats_N = 1.5 * bytes_N + generator.normal(0, 200, 400)
    picks = generator.integers(0, 400, (4000, 400))
    resampled = nats_N[picks].sum(1) / bytes_N[picks].sum(1)
    assert ratio_stderr(nats_N.tolist(), bytes_N.tolist()) == pytest.approx(resampled.std(), rel=0.05)


def test_one_pair_has_no_standard_error() -> None:
    assert ratio_stderr([1.0], [2.0]) is None
