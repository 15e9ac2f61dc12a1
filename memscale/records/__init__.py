"""The files of a run: layout, atomic writes, leases, metrics, provenance, results."""
