"""torch modules, one file an idea."""
