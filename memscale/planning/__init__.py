"""Planning: counts, matching, identity, recipes and forecast, as pure functions without torch and without I/O."""
