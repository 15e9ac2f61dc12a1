"""What is fast, measured; each module writes JSON."""
