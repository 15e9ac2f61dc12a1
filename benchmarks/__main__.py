"""`python -m benchmarks`: every benchmark, one after the other."""

from __future__ import annotations

from benchmarks import train_step

train_step.main()
