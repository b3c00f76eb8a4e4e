#!/usr/bin/env bash
# Everything: makes sure of a Vulkan adapter (scripts/setup.sh), then runs all tests, fast layers first, the documentation's
# examples, and the main job. Prints the adapter that the GPU tests ran on.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
# Mesa complains on stderr without it.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
# One profile and one set of features for tests and examples, and the tests' own build of the command: the dependencies are
# built once.
cargo test --release --all-features --no-run
"${CARGO_TARGET_DIR:-target}/release/wgpu-rnn" devices
cargo test --release --all-features
cargo run --quiet --release --example pronounce
