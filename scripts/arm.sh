#!/usr/bin/env bash
# Checks that the library compiles for ARM's 64-bit processors (NEON), without a warning. Where that target's standard library is not
# installed it says so and ends well: `rustup target add aarch64-unknown-linux-gnu` installs it.
# Registers of four values are tested on every machine (the unit tests of src/num).
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
export RUSTFLAGS="${RUSTFLAGS:-} -D warnings"
if compgen -G "$(rustc --print target-libdir --target "$target")/libcore-*" >/dev/null; then
    cargo check -p wgpu-rnn --lib --target "$target"
else
    echo "arm: skipped, $target is not installed (rustup target add $target)"
fi
