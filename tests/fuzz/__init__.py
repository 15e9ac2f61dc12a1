"""Seeded fuzzers: short as tests, long as `make fuzz` (MEMSCALE_FUZZ multiplies the number of tries)."""
