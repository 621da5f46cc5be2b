#!/usr/bin/env bash
# Builds the control planes of tests/interop below target/interop/.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/interop")
mkdir -p "$folder"
if ! command -v go >/dev/null; then
    echo "Go is missing: install it (tests/interop/go/go.mod names the version)" >&2
    exit 1
fi
(cd tests/interop/go && go vet . && go build -o "$folder/go-control-plane" .)
