"""Wrong inputs to the functions of a notebook end with a sentence that names the mistake, never with a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.errors import AnalysisError


def two_families() -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        (family, flops, seed, 3.0 * (flops / 1e17) ** -0.1 * share * float(np.exp(0.003 * random.standard_normal())))
        for family, share in (("dense", 1.0), ("memory", 0.95))
        for flops in (1e17, 1e18, 1e19, 1e20)
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows, columns=["family", "C", "seed", "loss"])


def gain(frame: pd.DataFrame, **changed: object) -> object:
    return analysis.gains(frame, **{"of": "memory", "over": "dense", "family": "family", **changed})  # type: ignore[arg-type]


WRONG: dict[str, tuple[Callable[[pd.DataFrame], object], str]] = {
    "one family twice": (lambda frame: gain(frame, over="memory"), "name one family, 'memory'"),
    "an axis that is none": (lambda frame: gain(frame, axis="F"), "there is no axis 'F'"),
    "a place that is no number": (lambda frame: gain(frame, at=["far"]), "give numbers above 0"),
    "a row without a family": (
        lambda frame: gain(frame.assign(family=frame["family"].where(frame.index != 3))),
        "it names no family",
    ),
    "a law that is no law": (lambda frame: analysis.fit(frame, 3), "a law is given by its name"),  # type: ignore[arg-type]
    "fixed at a word": (
        lambda frame: analysis.fit(frame, "power", factors={"x": "C"}, fix={"A": "x"}),  # type: ignore[dict-item]
        "fix needs a number",
    ),
    "one refit": (lambda frame: analysis.fit(frame, "power", factors={"x": "C"}, bootstrap=1), "at least 2"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_input_is_named(wrong: str) -> None:
    call, said = WRONG[wrong]
    with pytest.raises(AnalysisError, match=said):
        call(two_families())


def test_losses_that_rise_with_compute_end_with_words() -> None:
    frame = two_families().query("family == 'dense'")
    frame = frame.assign(loss=frame["loss"].to_numpy()[::-1])
    rising = analysis.fit(frame, "power_with_offset", factors={"x": "C"})
    assert "power_with_offset" in rising.summary()


def test_every_figure_of_an_answer_is_written(tmp_path: Path) -> None:
    written = analysis.draw(gain(two_families()), tmp_path)  # type: ignore[arg-type]
    assert {path.suffix for path in written} == {".png", ".pdf", ".csv"}
    assert all(path.stat().st_size > 0 for path in written)
