#!/usr/bin/env bash
# The MLflow server in the foreground: runs and metrics in PostgreSQL, artifacts in a folder that it serves itself, so
# that whoever writes needs its address and nothing else.
source "$(dirname "${BASH_SOURCE[0]}")/tracking.sh"
command -v mlflow >/dev/null || fail "mlflow is not installed here (make setup installs it into .venv)"
read_password

mkdir -p "$TRACKING_FOLDER/artifacts"
wait_for_port "$POSTGRES_HOST" "$POSTGRES_PORT" 60
export MLFLOW_DISABLE_TELEMETRY=true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # nothing here needs its job queue, which writes to the store
# By the environment, for it holds a password, which a command line shows to everybody. With the driver's name, for
# which one `postgresql://` alone means depends on the version of SQLAlchemy.
export MLFLOW_BACKEND_STORE_URI="postgresql+psycopg2://mlflow:$POSTGRES_PASSWORD@$POSTGRES_HOST:$POSTGRES_PORT/mlflow"
# MLflow refuses requests to a host's name that it was not told.
exec mlflow server --host "$MLFLOW_BIND" --port "$MLFLOW_PORT" --workers "${MLFLOW_WORKERS:-2}" \
    --artifacts-destination "file://$TRACKING_FOLDER/artifacts" \
    --allowed-hosts "${MLFLOW_HOSTS:-localhost:*,127.0.0.1:*}"
