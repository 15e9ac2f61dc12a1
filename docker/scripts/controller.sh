#!/usr/bin/env bash
# slurmctld in the foreground. The cluster is entered into the accounting first, once: else its jobs are not kept.
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
need slurmctld slurm-wlm
read_ports

mkdir -p "$BOX_RUN" "$BOX_LOG" "$BOX_STATE/controller"
name=$(sed -n 's/^ClusterName=//p' "$SLURM_CONF")
if [ ! -e "$BOX_STATE/controller/clustername" ]; then
    wait_for_port "$BOX_ACCOUNTING_HOST" "$ACCOUNTING_PORT" 60
    said=$(sacctmgr --immediate add cluster "$name" 2>&1) || [[ $said == *"already exists"* ]] ||
        fail "sacctmgr could not add the cluster $name:" "$said"
fi
exec slurmctld -D
