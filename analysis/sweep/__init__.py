"""What the results table of a sweep says: matching, learning rates, table size, model size, ablations, the study."""
