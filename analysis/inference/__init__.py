"""Uncertainty of fits: noise of replicates, bootstrap, sandwich, profile likelihood, prediction intervals."""
