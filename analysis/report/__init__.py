"""The report of a sweep: one self-contained HTML page, and the same numbers as JSON."""
