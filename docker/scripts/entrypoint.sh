#!/usr/bin/env bash
# What an image of the cluster starts with: entrypoint.sh SCRIPT [ARGUMENT...]. munged runs beside the one daemon of a
# container, as on any node of a cluster; then the script takes this process over.
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

script=${1:?entrypoint.sh needs the script to start: configure, database, accounting, controller or node}
shift
case $script in
accounting | controller | node)
    mkdir -p "$BOX_RUN" "$BOX_LOG"
    rm -f "$BOX_RUN/munge.socket"
    "$scripts/munge.sh" >>"$BOX_LOG/munged.out" 2>&1 &
    for _ in $(seq 100); do
        [ ! -S "$BOX_RUN/munge.socket" ] || break
        sleep 0.1
    done
    [ -S "$BOX_RUN/munge.socket" ] || fail "munged did not start:" "$(tail -n 12 "$BOX_LOG/munged.out")"
    ;;
configure | database) ;;
*) fail "there is no script '$script' for a container; there are: configure, database, accounting, controller, node" ;;
esac
exec "$scripts/$script.sh" "$@"
