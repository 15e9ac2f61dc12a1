#!/usr/bin/env bash
# Write what all daemons share: the ports, the munge key, slurm.conf and slurmdbd.conf; and what the Makefile reads. The
# key and the database's password are kept where they are there already; the rest is written anew.
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

mkdir -p "$BOX_ETC" "$BOX_RUN" "$BOX_STATE" "$BOX_LOG"
chmod 755 "$BOX_FOLDER" "$BOX_ETC" "$BOX_RUN" "$BOX_LOG"
umask 077

in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_base() { # the first of as many free ports in a row as there are daemons, below those that the kernel hands out
    local base port
    for _ in $(seq 50); do
        base=$((20000 + RANDOM % 11000))
        for port in $(seq $base $((base + 2 + BOX_NODES))); do
            if in_use "$port"; then continue 2; fi
        done
        echo $base
        return
    done
    fail "found no $((3 + BOX_NODES)) free ports in a row between 20000 and 32000; set BOX_PORT to the first of some"
}

base=${BOX_PORT:-$(free_base)}
DATABASE_PORT=$base ACCOUNTING_PORT=$((base + 1)) CONTROLLER_PORT=$((base + 2)) NODE_PORT=$((base + 3))
[ -s "$BOX_ETC/munge.key" ] || head -c 128 /dev/urandom >"$BOX_ETC/munge.key"
[ -s "$BOX_ETC/database.password" ] || head -c 18 /dev/urandom | base64 | tr '+/' '-_' >"$BOX_ETC/database.password"

# A node of one host has its share of it. What slurm.conf says of a node counts, not what slurmd finds (SLURM calls it
# config_overrides): so that four nodes can stand on two cores.
cpus=${BOX_CPUS:-$(($(nproc) / BOX_NODES))}
[ "$cpus" -ge 1 ] || cpus=1
memory_mb=${BOX_MEMORY_MB:-$(($(awk '/^MemTotal/ {print $2}' /proc/meminfo) * 9 / 10 / 1024 / BOX_NODES))}
ports=$NODE_PORT
nodes=n1
if [ "$BOX_NODES" -gt 1 ]; then
    ports="[$NODE_PORT-$((NODE_PORT + BOX_NODES - 1))]"
    nodes="n[1-$BOX_NODES]"
fi

cat >"$BOX_ETC/slurmdbd.conf" <<CONF
DbdHost=${BOX_ACCOUNTING_NAME:-localhost}
DbdAddr=$BOX_ACCOUNTING_HOST
DbdPort=$ACCOUNTING_PORT
SlurmUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$BOX_RUN/munge.socket
PidFile=$BOX_RUN/slurmdbd.pid
LogFile=$BOX_LOG/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=$BOX_DATABASE_HOST
StoragePort=$DATABASE_PORT
StorageUser=slurm
StoragePass=$(cat "$BOX_ETC/database.password")
StorageLoc=slurm
CONF

umask 022
cat >"$BOX_ETC/ports" <<CONF
DATABASE_PORT=$DATABASE_PORT
ACCOUNTING_PORT=$ACCOUNTING_PORT
CONTROLLER_PORT=$CONTROLLER_PORT
NODE_PORT=$NODE_PORT
CPUS=$cpus
MEMORY_MB=$memory_mb
CONF

# cred_expire is also how long a requeued job waits before it may start again: 120 s unless said otherwise.
# Preemption by partition: a job of "urgent" sends jobs of "main" back into the queue.
# Without cgroups the accounting's samples are what ends a job above its memory (OverMemoryKill).
cat >"$SLURM_CONF" <<CONF
ClusterName=${BOX_NAME:-box}
SlurmctldHost=$BOX_CONTROLLER
SlurmctldPort=$CONTROLLER_PORT
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$BOX_RUN/munge.socket,cred_expire=${BOX_REQUEUE_SECONDS:-15}
CredType=cred/munge
StateSaveLocation=$BOX_STATE/controller
SlurmdSpoolDir=$BOX_STATE/node-%n
SlurmctldPidFile=$BOX_RUN/slurmctld.pid
SlurmdPidFile=$BOX_RUN/slurmd-%n.pid
SlurmctldLogFile=$BOX_LOG/slurmctld.log
SlurmdLogFile=$BOX_LOG/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
KillWait=10
SlurmctldTimeout=30
SlurmdTimeout=${BOX_SLURMD_TIMEOUT:-30}
MinJobAge=${BOX_MIN_JOB_AGE:-300}
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$BOX_ACCOUNTING_HOST
AccountingStoragePort=$ACCOUNTING_PORT
AccountingStoragePass=$BOX_RUN/munge.socket
${BOX_ENFORCE:+AccountingStorageEnforce=$BOX_ENFORCE}
NodeName=$nodes $BOX_NODE_PLACE Port=$ports CPUs=$cpus RealMemory=$memory_mb State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
CONF

# The Makefile reads this: what make starts then finds the cluster, and asks for no more than its nodes have. A person's
# own SLURM_CONF names another cluster, and wins.
cat >"$BOX_ETC/use.mk" <<MAKE
ifeq (\$(filter-out $SLURM_CONF,\$(SLURM_CONF)),)
export SLURM_CONF := $SLURM_CONF
LAUNCHER := \$(or \$(LAUNCHER),slurm)
SCALE := \$(or \$(SCALE),laptop)
cluster_overrides := launcher.cpus_per_run=$cpus launcher.gpus_per_run=0 launcher.memory=${memory_mb}M
endif
MAKE
