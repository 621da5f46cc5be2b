#!/usr/bin/env bash
# Builds h2spec from the Go module proxy and puts it below target/interop/.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/interop")
if [ ! -x "$folder/h2spec" ]; then
    go=$(scripts/go.sh)
    mkdir -p "$folder"
    GOBIN="$folder" "$go" install "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"
fi
echo "$folder/h2spec"
