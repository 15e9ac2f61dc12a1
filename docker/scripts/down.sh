#!/usr/bin/env bash
# Stop what up.sh started, and the jobs on it. The accounting, the logs and the numbers of jobs are kept for the next up.
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
source "$(dirname "${BASH_SOURCE[0]}")/processes.sh"

[ -d "$BOX_FOLDER" ] || { echo "no cluster was started in $BOX_FOLDER" && exit 0; }
exec 9>"$BOX_FOLDER/lock"
flock -n 9 || fail "another make cluster-up or cluster-down is at work in $BOX_FOLDER"
rm -f "$BOX_ETC/use.mk"

steps() { # process ids of this cluster's slurmstepd, which outlive slurmd; our slurm.conf stands in their environment
    local folder
    for folder in /proc/[0-9]*; do
        if [[ $(readlink "$folder/exe" 2>/dev/null) == */slurmstepd ]] &&
            tr '\0' '\n' 2>/dev/null <"$folder/environ" | grep -q -x -F "SLURM_CONF=$SLURM_CONF"; then
            echo "${folder#/proc/}"
        fi
    done
}

kill_tree() { # PID: it and all below it
    local children child
    read -r -a children <<<"$(cat "/proc/$1/task/"*/children 2>/dev/null | tr '\n' ' ')"
    for child in "${children[@]}"; do kill_tree "$child"; done
    kill -KILL "$1" 2>/dev/null || true
}

if is_running slurmctld && timeout 10 scontrol ping >/dev/null 2>&1; then
    jobs=$(timeout 10 squeue --noheader --format=%A | sort -u) || jobs=""
    if [ -n "$jobs" ]; then
        echo "cancelling $(wc -w <<<"$jobs") jobs"
        # shellcheck disable=SC2086
        timeout 20 scancel $jobs || true
        for _ in $(seq 150); do
            [ -n "$(steps)" ] || break
            sleep 0.1
        done
    fi
fi
for name in $(recorded); do
    case $name in slurmd-*) stop "$name" & ;; esac
done
wait
for name in slurmctld slurmdbd mariadb munged; do
    stop "$name"
done
for pid in $(steps); do kill_tree "$pid"; done
echo "the cluster in $BOX_FOLDER is stopped"
