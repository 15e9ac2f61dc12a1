#!/usr/bin/env bash
# slurmdbd in the foreground: what sacct answers from.
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
need slurmdbd slurmdbd
read_ports

mkdir -p "$BOX_RUN" "$BOX_LOG"
wait_for_port "$BOX_DATABASE_HOST" "$DATABASE_PORT" 60
exec slurmdbd -D
