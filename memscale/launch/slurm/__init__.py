"""The SLURM side of a launch: submitting job arrays, observing them, and the jobs that run on the cluster."""
