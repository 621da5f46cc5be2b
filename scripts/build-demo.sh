#!/usr/bin/env bash
# Builds the programs that the demonstration runs, saying how far it is.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "building weft, weft-control-plane, weft-sidecar and weft-init (some minutes the first time)"
cargo build --bin weft --bin weft-control-plane --bin weft-sidecar --bin weft-init
