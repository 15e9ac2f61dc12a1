"""Figures: one style, one palette, one file a kind of figure; matplotlib is imported nowhere else."""
