"""Mirrors the files of runs into MLflow, which is a view: delete its database and the next sync writes it again.

The settings below are here because MLflow reads some of them while it is imported, and every module of this
package is imported after this one. A person's own setting of a variable wins, except for the first.
"""

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# MLflow's own waits (7 retries of 2 minutes) would hold a sweep up for a quarter of an hour when a server is away.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
