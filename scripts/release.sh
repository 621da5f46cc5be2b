#!/usr/bin/env bash
# Builds the weft-sidecar that is shipped: a build that counts what runs carries the load tests'
# work, and a second one is optimised for what was counted. Its path is the last line.
#
#   scripts/release.sh [--or-plain]     --or-plain: without llvm-tools, an ordinary release build
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
folder=$target/shipped
training=http1,http2,grpc,grpc-stream,tcp,tcp-mtls,mtls,bodies,handshakes,resumed
host=$(rustc -vV | sed -n 's/^host: //p')
profdata=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata

if [ ! -x "$profdata" ] && ! rustup component add llvm-tools >&2; then
    echo "llvm-profdata is missing: 'rustup component add llvm-tools' has it" >&2
    [ "${1:-}" = --or-plain ] || exit 1
    echo "going on with an ordinary release build" >&2
    cargo build --release --bin weft-sidecar >&2
    echo "$target/release/weft-sidecar"
    exit
fi

# Nothing to do if nothing changed since.
sources=$(find . -path "./target" -prune -o -path "$target" -prune -o -type f \
    \( -name '*.rs' -o -name '*.toml' -o -name Cargo.lock -o -path ./scripts/release.sh \) -print0 |
    sort -z | xargs -0 sha256sum)
stamp=$( (rustc -vV; echo "${RUSTFLAGS:-}"; echo "$sources") | sha256sum)
if [ -x "$folder/weft-sidecar" ] && [ "$(cat "$folder/stamp" 2>/dev/null)" = "$stamp" ]; then
    echo "$folder/weft-sidecar"
    exit
fi

cargo build --release --bin weft-bench
rm -rf "$folder"
mkdir -p "$folder/counts"
RUSTFLAGS="${RUSTFLAGS:-} -Cprofile-generate=$folder/counts" \
    cargo build --release --bin weft-sidecar --target "$host"
"$target/release/weft-bench" --proxies weft --only "$training" --seconds 2 --rounds 1 \
    --sidecar "$target/$host/release/weft-sidecar" >"$folder/training.txt" || {
    echo "the training run failed:" >&2
    cat "$folder/training.txt" >&2
    exit 1
}
"$profdata" merge --output="$folder/weft-sidecar.profdata" "$folder/counts"
rm -rf "$folder/counts"
RUSTFLAGS="${RUSTFLAGS:-} -Cprofile-use=$folder/weft-sidecar.profdata" \
    cargo build --release --bin weft-sidecar --target "$host"
cp "$target/$host/release/weft-sidecar" "$folder/weft-sidecar"
echo "$stamp" >"$folder/stamp"
echo "$folder/weft-sidecar"
