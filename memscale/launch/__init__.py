"""Workers, the local pool, states, retries."""
