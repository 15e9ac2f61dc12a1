"""Compute-optimal allocation: N*(C) and D*(C) by the envelope, by isoFLOP curves, and by a fitted law."""
