#!/usr/bin/env bash
# Runs cargo-deny: bans, licences and sources always; advisories where their database can be reached.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$1
tools=${CARGO_TARGET_DIR:-target}/tools
export PATH="$tools/bin:$PATH"
if ! cargo-deny --version 2>/dev/null | grep -qF "$version"; then
    echo "installing cargo-deny $version"
    CARGO_TARGET_DIR="$tools/build" cargo install --quiet --debug --locked --root "$tools" --version "$version" cargo-deny
    rm -rf "$tools/build"
fi
cargo-deny --log-level error check bans licenses sources
if timeout 30 git ls-remote -q https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then
    cargo-deny --log-level error check advisories
else
    echo "advisories were not checked: their database can't be reached from here"
fi
