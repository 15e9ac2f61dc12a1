#!/usr/bin/env bash
# MariaDB in the foreground, for slurmdbd alone: its own data, socket and port, and one account with a random password.
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
need mariadbd mariadb-server
read_ports

data=$BOX_STATE/database
mkdir -p "$BOX_RUN" "$BOX_LOG" "$data"
options=(--no-defaults --datadir="$data" --user="$(id -un)" --skip-log-bin)
if [ ! -d "$data/mysql" ]; then
    # Made aside and renamed: one that was cut short is made again.
    rm -rf "$data.new"
    mariadb-install-db --no-defaults --datadir="$data.new" --user="$(id -un)" --auth-root-socket-user="$(id -un)" \
        --skip-test-db >"$BOX_LOG/mariadb-install.log" 2>&1 ||
        fail "mariadb-install-db failed:" "$(tail -n 15 "$BOX_LOG/mariadb-install.log")"
    rmdir "$data"
    mv "$data.new" "$data"
fi
grants=$BOX_RUN/grants.sql
(
    umask 077
    cat >"$grants" <<SQL
CREATE DATABASE IF NOT EXISTS slurm;
CREATE USER IF NOT EXISTS 'slurm'@'%' IDENTIFIED BY '$(cat "$BOX_ETC/database.password")';
GRANT ALL ON slurm.* TO 'slurm'@'%';
SQL
)
exec mariadbd "${options[@]}" --init-file="$grants" --bind-address="$BOX_BIND" --port="$DATABASE_PORT" \
    --socket="$BOX_RUN/mariadb.socket" --pid-file="$BOX_RUN/mariadb.pid" --skip-name-resolve \
    --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 --innodb-log-file-size=32M
