"""Analyses of a sweep's results table: matching, learning rates, table size, model size, ablations; all in a study."""
