#!/usr/bin/env bash
# Builds the control planes of tests/interop below target/interop/.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/interop")
go=$(scripts/go.sh)
mkdir -p "$folder"
(cd tests/interop/go && "$go" vet . && "$go" build -o "$folder/go-control-plane" .)
