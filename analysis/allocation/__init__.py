"""The best split of compute: N*(C) and D*(C) by the envelope, by isoFLOP parabolas, and by a fitted law."""
