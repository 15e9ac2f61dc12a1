"""`python -m benchmarks`: every benchmark, one after the other."""

from __future__ import annotations

from benchmarks import fitting, memory_step, ngram_step, plan, table_memory, topk, train_step, verification

for benchmark in (plan, fitting, topk, memory_step, ngram_step, table_memory, train_step, verification):
    benchmark.main()
