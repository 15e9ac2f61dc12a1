"""The lm-eval adapter and the local tasks."""
