"""What a person writes, as frozen, validated dataclasses; the only place that knows Hydra."""
