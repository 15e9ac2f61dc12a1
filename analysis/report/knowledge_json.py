"""Bits stored against bits offered as plain JSON."""

from __future__ import annotations

from typing import Any

from analysis.card import ends, finite
from analysis.sweep.knowledge import Knowledge


def knowledge_json(found: Knowledge | None) -> list[dict[str, Any]] | None:
    """Bits stored against bits offered per dense parameter, and where each series saturates."""
    if found is None:
        return None
    return [
        {
            "series": one.series,
            "saturation": finite(one.level),
            "saturation_ci95": ends(one.interval),
            "share_stored_while_there_is_room": finite(one.share),
            "refused_because": one.refusal or None,
            "warning": one.warning or None,
            "points": [
                {
                    "budget": point.budget,
                    "offered": point.offered,
                    "stored": point.stored,
                    "ci95": ends(point.interval),
                    "seeds": point.num_seeds,
                }
                for point in one.points
            ],
        }
        for one in found.series
    ]
