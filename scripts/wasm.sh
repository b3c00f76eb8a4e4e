#!/usr/bin/env bash
# Checks that the library compiles for browsers (wasm32-unknown-unknown), without a warning. Where that target's standard library is
# not installed it says so and ends well: `rustup target add wasm32-unknown-unknown` installs it. Where rustup cannot,
# WGPU_RNN_RUST_SRC names the standard library's source of exactly this rustc (the folder `library` of rust-src), and cargo
# compiles it.
set -euo pipefail
cd "$(dirname "$0")/.."
target=wasm32-unknown-unknown
check=(check -p wgpu-rnn --lib --target "$target" --no-default-features)
export RUSTFLAGS="${RUSTFLAGS:-} -D warnings"
if compgen -G "$(rustc --print target-libdir --target "$target")/libcore-*" >/dev/null; then
    cargo "${check[@]}"
elif [ -n "${WGPU_RNN_RUST_SRC:-}" ]; then
    RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT="$WGPU_RNN_RUST_SRC" cargo "${check[@]}" -Zbuild-std=std,panic_abort
else
    echo "wasm: skipped, $target is not installed (rustup target add $target)"
fi
