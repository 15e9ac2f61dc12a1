"""Pure planning: counts, matching, identity, forecast. No torch, no files."""
