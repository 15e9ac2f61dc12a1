"""`python -m benchmarks`: every benchmark, one after the other."""

from __future__ import annotations

from benchmarks import plan, train_step

plan.main()
train_step.main()
