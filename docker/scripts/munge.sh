#!/usr/bin/env bash
# munged in the foreground: it signs every message between SLURM's daemons and commands.
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
need munged munge

mkdir -p "$BOX_RUN" "$BOX_STATE/munge" "$BOX_LOG"
chmod 700 "$BOX_STATE/munge"
# --force: munged else refuses a folder whose parents others may write to, such as one below /tmp.
exec munged --foreground --force --num-threads=2 \
    --key-file="$BOX_ETC/munge.key" --socket="$BOX_RUN/munge.socket" --pid-file="$BOX_STATE/munge/pid" \
    --seed-file="$BOX_STATE/munge/seed" --log-file="$BOX_LOG/munged.log"
