"""How much of the way from a small dense model's metric to a large one's another model goes."""

from __future__ import annotations

from analysis.errors import FitError


def gap_closed(small: float, ours: float, large: float) -> float:
    """The share of the way from a small dense model's metric to a larger one's; 1 closes the gap.

    Args:
        small: the metric of the small dense model.
        ours: of the model in question, in the same unit.
        large: of the large dense model.

    Raises:
        FitError: both dense models have one metric.

    Example:
        >>> round(gap_closed(0.2, 0.35, 0.5), 3)
        0.5
    """
    if large == small:
        raise FitError(f"there is no gap to close: both dense models have {small:g}")
    return (ours - small) / (large - small)
