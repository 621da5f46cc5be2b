#!/usr/bin/env bash
# Runs the fuzz targets, each for so many seconds: on mutated seeds, or with GUIDED=1 under
# libFuzzer. Stable Rust is enough for that, too: the counters are a pass of LLVM's, and libFuzzer
# comes with its crate.
#
#   [GUIDED=1] scripts/fuzz.sh SECONDS [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?"how many seconds for each target?"}
shift
host=$(rustc -vV | sed -n 's/^host: //p')
folder=${CARGO_TARGET_DIR:-$PWD/target}
fuzz=$folder/fuzz

cargo build --workspace --bin weft-fuzz
plain=$folder/debug/weft-fuzz
[ $# -gt 0 ] || mapfile -t list < <("$plain" list)
if [ -z "${GUIDED:-}" ]; then
    for target in "${@:-${list[@]}}"; do
        seed=$RANDOM
        "$plain" run "$target" --seconds "$seconds" --seed "$seed" && continue
        echo "broken: $target; --seed $seed --last FILE keeps the input" >&2
        exit 1
    done
    exit 0
fi

command -v c++ >/dev/null || scripts/install.sh g++
passes="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
passes+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
passes+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# The same versions as everywhere.
cp Cargo.lock tests/fuzz/libfuzzer/Cargo.lock
RUSTFLAGS="$passes -Cdebug-assertions" cargo build --release --target "$host" \
    --manifest-path tests/fuzz/libfuzzer/Cargo.toml --target-dir "$fuzz"
guided=$fuzz/$host/release/weft-libfuzzer

broken=()
for target in "${@:-${list[@]}}"; do
    corpus=$fuzz/corpus/$target
    found=$fuzz/found/$target
    mkdir -p "$corpus" "$found" "tests/fuzz/corpus/$target"
    "$plain" seeds "$target" "$corpus" "$fuzz/$target.words"
    echo "== $target"
    WEFT_FUZZ_TARGET=$target "$guided" "$corpus" "tests/fuzz/corpus/$target" \
        -max_total_time="$seconds" -dict="$fuzz/$target.words" -artifact_prefix="$found/" \
        -max_len=16384 -timeout=20 -rss_limit_mb=3072 -print_final_stats=1 -verbosity=0 ||
        broken+=("$target")
    rmdir --ignore-fail-on-non-empty "tests/fuzz/corpus/$target"
done
if [ ${#broken[@]} -gt 0 ]; then
    echo "broken: ${broken[*]}; the inputs are in $fuzz/found: add them to tests/fuzz/corpus" >&2
    exit 1
fi
