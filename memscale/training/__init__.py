"""Trainer, optimizers, schedules, checkpoints, metrics."""
