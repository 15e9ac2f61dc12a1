"""Table -> laws -> fit -> uncertainty -> gain -> figures -> report: the answer of a sweep, with its uncertainty.

Reads results tables only; imports neither torch nor memscale. `analysis.report.build` writes everything at once,
`python -m analysis` is the same from a terminal.
"""
