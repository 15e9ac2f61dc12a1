"""The trainer and its parts: optimizers, schedule, micro-batches, checkpoints, metrics, data-parallel training."""
