"""Every card starts with the same head and is JSON that any program can read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest

from analysis.card import CardWarning, card, ends, text
from analysis.interval import ConfidenceInterval


@dataclass(frozen=True, kw_only=True)
class Row:
    row: int
    rule: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Rows:
    source: str = "runs.csv"
    sha256: str = "ab"
    exclusions: tuple[Row, ...] = (Row(row=3, rule="status", reason="failed"),)
    warnings: tuple[str, ...] = ("two rows are equal",)

    def __len__(self) -> int:
        return 7


def test_the_head_comes_first_and_holds_what_the_table_says() -> None:
    made = card("gain", Rows(), [CardWarning(code="uneven", text="noise grows")], law="x", slope_ci95=None)
    head = ["format", "kind", "source", "sha256", "n", "exclusions", "warnings"]
    assert list(made) == [*head, "law", "slope_ci95"]
    assert made["exclusions"] == [{"row": 3, "rule": "status", "reason": "failed"}]
    assert [one["code"] for one in made["warnings"]] == ["table", "uneven"]
    assert (made["kind"], made["n"], made["sha256"]) == ("gain", 7, "ab")


def test_infinite_ends_are_null_and_the_text_is_json() -> None:
    made = card("gain", Rows(), value_ci95=ConfidenceInterval(-math.inf, 2.0))
    assert json.loads(text(made))["value_ci95"] == [None, 2.0]
    assert ends((math.nan, math.inf)) == [None, None]
    with pytest.raises(ValueError, match="JSON compliant"):
        text({"value": math.nan})


def test_a_body_may_not_overwrite_the_head() -> None:
    with pytest.raises(ValueError, match="n, source in the body of a fit card"):
        card("fit", Rows(), source="x", n=3)
