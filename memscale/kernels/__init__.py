"""The memory layer's hot path: one op, several back ends."""
