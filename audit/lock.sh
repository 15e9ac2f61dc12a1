#!/usr/bin/env bash
# Writes requirements.lock: the packages of constraints.txt with the SHA-256 of each of their files, for Python 3.11.5 on.
# uv asks the index for them; it is installed into a folder of its own that is removed again.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --disable-pip-version-check -q uv
grep -E '^[a-z]' constraints.txt | grep -vE '^(torch|chinchilla|fbgemm-gpu-cpu)==' >"$folder/pins.in"
"$folder/venv/bin/uv" pip compile "$folder/pins.in" --universal --python-version 3.11.5 --generate-hashes --no-deps \
    --no-annotate --no-header --quiet --output-file "$folder/hashes"
{
    sed -n '/^#/p' requirements.lock
    cat "$folder/hashes"
} >"$folder/lock"
mv "$folder/lock" requirements.lock
