#!/usr/bin/env bash
# PostgreSQL in the foreground, for the MLflow server alone: its own data, socket and port, and one account with a
# password. PostgreSQL refuses to run as root, so root becomes `postgres` first.
source "$(dirname "${BASH_SOURCE[0]}")/tracking.sh"

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$TRACKING_FOLDER/database"
    chmod 755 "$TRACKING_FOLDER"
    chown postgres: "$TRACKING_FOLDER" "$TRACKING_FOLDER/database"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "${BASH_SOURCE[0]}"
fi
programs=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$programs" ] || fail "there is no /usr/lib/postgresql (Debian: postgresql)"

mkdir -p "$TRACKING_FOLDER/database"
data=$TRACKING_FOLDER/database/data
if [ ! -d "$data" ]; then
    # Made aside and renamed: one that was cut short is made again.
    rm -rf "$data.new"
    (
        umask 077
        [ -n "$POSTGRES_PASSWORD" ] || POSTGRES_PASSWORD=$(head -c 18 /dev/urandom | base64 | tr '+/' '-_')
        echo "$POSTGRES_PASSWORD" >"$TRACKING_FOLDER/password"
    )
    log=$TRACKING_FOLDER/database/initdb.log
    "$programs/initdb" --pgdata="$data.new" --username=mlflow --pwfile="$TRACKING_FOLDER/password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 >"$log" 2>&1 ||
        fail "initdb failed:" "$(tail -n 15 "$log")"
    echo 'CREATE DATABASE mlflow' | "$programs/postgres" --single -D "$data.new" postgres >>"$log" 2>&1 ||
        fail "PostgreSQL could not make the database mlflow:" "$(tail -n 15 "$log")"
    echo "host all all all scram-sha-256" >>"$data.new/pg_hba.conf"
    mv "$data.new" "$data"
fi
exec "$programs/postgres" -D "$data" -h "$POSTGRES_BIND" -p "$POSTGRES_PORT" -k "$TRACKING_FOLDER/database"
