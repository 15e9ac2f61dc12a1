#!/usr/bin/env bash
# Start a SLURM cluster on this machine: munge, MariaDB, slurmdbd, slurmctld and BOX_NODES times slurmd, in a folder and
# on ports of their own. Started again it adds what has ended, and leaves the rest alone.
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$scripts/processes.sh"

mkdir -p "$BOX_FOLDER"
exec 9>"$BOX_FOLDER/lock"
flock -n 9 || fail "another make cluster-up or cluster-down is at work in $BOX_FOLDER"
"$scripts/install.sh"

running=""
for name in $(recorded); do
    if is_running "$name"; then running=1; fi
done
if [ -z "$running" ]; then
    "$scripts/configure.sh"
    trap '[ $? = 0 ] || rm -f "$BOX_ETC/use.mk"' EXIT # make must not look for a cluster that did not come up
elif [ "$(cat "$BOX_RUN/nodes")" != "$BOX_NODES" ]; then
    fail "the cluster runs with NODES=$(cat "$BOX_RUN/nodes"); for $BOX_NODES, first: make cluster-down"
fi
echo "$BOX_NODES" >"$BOX_RUN/nodes"
read_ports

answers() { # PORT
    (exec 3<>"/dev/tcp/127.0.0.1/$1")
}
all_up() { # as many nodes answer as there are
    [ "$(sinfo --noheader --Node --partition=main --format=%T | grep -c -E '^(idle|mixed|allocated|drained|draining)$')" \
        = "$BOX_NODES" ]
}

start munged "$scripts/munge.sh"
start mariadb "$scripts/database.sh"
await munged 10 "socket" test -S "$BOX_RUN/munge.socket"
await mariadb 60 "answer at its port" answers "$DATABASE_PORT"
start slurmdbd "$scripts/accounting.sh"
await slurmdbd 60 "answer at its port" answers "$ACCOUNTING_PORT"
start slurmctld "$scripts/controller.sh"
for number in $(seq "$BOX_NODES"); do
    start "slurmd-n$number" "$scripts/node.sh" "n$number"
done
await slurmctld 60 "answer to scontrol ping" scontrol ping
await "slurmd-n$BOX_NODES" 60 "cluster with all its nodes up (see sinfo --list-reasons)" all_up

cat <<SAY
a SLURM with $BOX_NODES nodes of $CPUS cores and $MEMORY_MB MB each is up; jobs of its partition urgent preempt those of main
  with make:      make sweep SWEEP=memory_vs_moe LAUNCHER=slurm
                  (adds $(sed -n 's/^cluster_overrides := //p' "$BOX_ETC/use.mk"), and scale=laptop where SCALE is not given)
  in this shell:  export SLURM_CONF=$SLURM_CONF
  its logs:       $BOX_LOG
  stop it with:   make cluster-down
SAY
