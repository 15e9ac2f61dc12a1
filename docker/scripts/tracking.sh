# shellcheck shell=bash
# Sourced by postgres.sh and mlflow.sh: the settings of the MLflow server and of the database behind it.
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

TRACKING_FOLDER=${TRACKING_FOLDER:-$BOX_FOLDER/tracking} # the database and the artifacts
POSTGRES_HOST=${POSTGRES_HOST:-127.0.0.1}
POSTGRES_PORT=${POSTGRES_PORT:-5432}
POSTGRES_BIND=${POSTGRES_BIND:-127.0.0.1}
POSTGRES_PASSWORD=${POSTGRES_PASSWORD:-} # empty: a random one, kept in the folder
MLFLOW_PORT=${MLFLOW_PORT:-5000}
MLFLOW_BIND=${MLFLOW_BIND:-127.0.0.1}

read_password() {
    if [ -z "$POSTGRES_PASSWORD" ]; then
        [ -r "$TRACKING_FOLDER/password" ] || fail "$TRACKING_FOLDER/password is missing; postgres.sh writes it"
        POSTGRES_PASSWORD=$(cat "$TRACKING_FOLDER/password")
    fi
}
