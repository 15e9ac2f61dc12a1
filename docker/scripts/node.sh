#!/usr/bin/env bash
# slurmd in the foreground: node.sh n1
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
need slurmd slurm-wlm

name=${1:?node.sh needs the name of the node, such as n1}
mkdir -p "$BOX_RUN" "$BOX_LOG" "$BOX_STATE/node-$name"
exec slurmd -D -N "$name"
