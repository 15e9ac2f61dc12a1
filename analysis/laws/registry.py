"""Every law by its name. Refuses a name it does not know, with the list."""

from __future__ import annotations

import re

from analysis.errors import FitError
from analysis.laws import broken_power, dense, links, looped, memory, moe, storage
from analysis.laws.law import Law

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        dense.POWER,
        dense.POWER_WITH_OFFSET,
        dense.KAPLAN,
        dense.CHINCHILLA,
        dense.OVERTRAINED,
        broken_power.M1,
        broken_power.M2,
        broken_power.M3,
        broken_power.M4,
        broken_power.broken_power(),
        moe.ROUTED,
        moe.JOINT_MOE,
        moe.FINE_GRAINED_MOE,
        moe.SPARSE,
        moe.EXPERTS_EFFECTIVE,
        moe.EXPERTS_ADDITIVE,
        moe.EXPERTS_LOG_LINEAR,
        looped.LOOPED,
        memory.DATA_CONSTRAINED,
        memory.DATA_CONSTRAINED_FULL,
        memory.MEMORY_EFFECTIVE,
        memory.MEMORY_ADDITIVE,
        memory.MEMORY_LOG_LINEAR,
        *storage.STORAGE_LAWS,
        links.EXPONENTIAL_LINK,
        links.SIGMOID_LINK,
    )
}

_MADE = re.compile(r"(?P<kind>sum_of_powers|broken_power)\((?P<given>[^()]*)\)")


def law_named(name: str) -> Law:
    """The law of that name; `sum_of_powers(N, D, T)` and `broken_power(2)` are made on request."""
    made = _MADE.fullmatch(name.strip())
    if made and made["kind"] == "sum_of_powers":
        return dense.sum_of_powers([part.strip() for part in made["given"].split(",") if part.strip()])
    if made and made["given"].strip().isdigit():
        return broken_power.broken_power(int(made["given"]))
    if name not in LAWS:
        raise FitError(
            f"there is no law {name!r}. Known: {', '.join(sorted(LAWS))}, sum_of_powers(COLUMN, ...), broken_power(K)"
        )
    return LAWS[name]


def law_of(law: Law | str) -> Law:
    """The law itself, given it or its name. Raises FitError for anything else."""
    if isinstance(law, Law):
        return law
    if not isinstance(law, str):
        raise FitError(f"a law is given by its name, such as 'chinchilla', or as a Law; given {law!r}")
    return law_named(law)
