"""Which step a coefficient that is fixed, tied or bounded belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.errors import FitError
from analysis.laws.law import Law


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """Fixed, tied and bounded coefficients for the fit of a step."""

    fixed: dict[str, float]
    tied: dict[str, str]
    bounds: dict[str, tuple[float, float]]


def share_coefficients(
    law: Law,
    link: Law,
    fix: Mapping[str, float],
    tie: Mapping[str, str],
    bounds: Mapping[str, tuple[float, float]],
) -> tuple[Coefficients, Coefficients]:
    """Fixed, tied and bounded coefficients of each step. Raises FitError for a name that no step has, or both have."""
    for name in {**fix, **tie, **bounds}:
        steps = [form for form in (law, link) if name in form.names]
        if len(steps) != 1:
            names = ", ".join((*law.names, *link.names))
            where = "is a coefficient of both steps" if steps else f"is of neither step; there are: {names}"
            raise FitError(f"coefficient {name} {where}")

    def of(form: Law) -> Coefficients:
        return Coefficients(
            fixed={name: value for name, value in fix.items() if name in form.names},
            tied={name: value for name, value in tie.items() if name in form.names},
            bounds={name: value for name, value in bounds.items() if name in form.names},
        )

    return of(law), of(link)
