#!/usr/bin/env bash
# Install what the cluster runs, from Debian's packages, as root. Starts no service: a package's own daemon would take
# the default ports and read the default configuration. slurm-wlm-emulator must not stand beside slurm-wlm: it takes
# over slurmctld.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
packages=()
command -v slurmctld >/dev/null && command -v slurmd >/dev/null || packages+=(slurm-wlm)
command -v slurmdbd >/dev/null || packages+=(slurmdbd)
command -v munged >/dev/null || packages+=(munge)
command -v mariadbd >/dev/null || packages+=(mariadb-server)
packages+=("$@")
[ ${#packages[@]} -gt 0 ] || exit 0
if ! command -v apt-get >/dev/null; then
    echo "cluster: apt-get is not here; install by other means: ${packages[*]}" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "cluster: not installed: ${packages[*]}; only root installs them: sudo apt-get install ${packages[*]}" >&2
    exit 1
fi
echo "installing ${packages[*]}"
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then # Debian asks this file before it starts a service; 101 says no
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f $policy' EXIT
fi
log=$(mktemp)
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
    install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "cluster: apt-get could not install ${packages[*]}, as said above (all of it: $log)" >&2
    exit 1
fi
rm -f "$log"
