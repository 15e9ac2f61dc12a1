"""Configuration as frozen, validated dataclasses; the only package that imports Hydra."""
