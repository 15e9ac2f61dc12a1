"""What `memscale doctor` looks at: this machine, SLURM, the file system of the runs, and the MLflow store."""
