"""The findings in the order of the page. A new one is a module beside this with a `FINDING`, and its line here."""

from __future__ import annotations

from analysis.findings import forecast, knowledge, memory_law, memory_scaling, memory_vs_moe, null
from analysis.findings.finding import Finding

FINDINGS: tuple[Finding, ...] = (
    memory_vs_moe.FINDING,
    null.FINDING,
    knowledge.FINDING,
    memory_scaling.FINDING,
    memory_law.FINDING,
    forecast.FINDING,
)
