# shellcheck shell=bash disable=SC2034
# Sourced by every script here: the settings of the cluster, each with its default, and the words it fails with.
# Natively all daemons share one folder and one host; in the images compose.yaml gives each its host's name.
set -euo pipefail

BOX_FOLDER=${BOX_FOLDER:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.cluster}
BOX_ETC=$BOX_FOLDER/etc     # what all daemons share: slurm.conf, slurmdbd.conf, the munge key
BOX_RUN=$BOX_FOLDER/run     # sockets and process ids
BOX_STATE=$BOX_FOLDER/state # what outlives a restart
BOX_LOG=$BOX_FOLDER/log
BOX_NODES=${BOX_NODES:-4}
BOX_HOST=${BOX_HOST:-$(hostname -s)}

# The address behind each daemon's name. The ports count up from one: database, accounting, controller, then the nodes.
BOX_CONTROLLER=${BOX_CONTROLLER:-$BOX_HOST(127.0.0.1)}
BOX_NODE_PLACE=${BOX_NODE_PLACE-NodeHostname=$BOX_HOST NodeAddr=127.0.0.1}
BOX_ACCOUNTING_HOST=${BOX_ACCOUNTING_HOST:-127.0.0.1}
BOX_DATABASE_HOST=${BOX_DATABASE_HOST:-127.0.0.1}
BOX_BIND=${BOX_BIND:-127.0.0.1} # where the database listens

export SLURM_CONF=$BOX_ETC/slurm.conf
PATH=$PATH:/usr/sbin:/sbin # where Debian keeps daemons; a user's PATH may lack it

fail() { # WHAT, and then as many lines as help
    printf 'cluster: %s\n' "$@" >&2
    exit 1
}

need() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null || fail "$1 is not installed (Debian: $2)" "install it with: make cluster-up, as root"
}

wait_for_port() { # HOST PORT SECONDS
    local until=$((SECONDS + $3))
    until (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; do
        [ $SECONDS -lt $until ] || fail "nothing answered at $1:$2 for $3 s"
        sleep 0.1
    done
}

read_ports() { # of the cluster that configure.sh wrote
    [ -r "$BOX_ETC/ports" ] || fail "$BOX_ETC/ports is missing: configure.sh writes it, and comes before every daemon"
    # shellcheck source=/dev/null
    source "$BOX_ETC/ports"
}

[[ $BOX_NODES =~ ^[1-9][0-9]{0,2}$ ]] || fail "NODES is '$BOX_NODES'; needed is a number from 1 to 999"
# A socket's path has at most 107 characters, and the longest, slurmstepd's, adds /state/node-n999/n999_1234567.4294967291.
[ ${#BOX_FOLDER} -le 67 ] || fail "the path $BOX_FOLDER is too long for sockets; set BOX_FOLDER to a shorter one"
