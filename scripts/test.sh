#!/usr/bin/env bash
# Everything: makes sure of a Vulkan adapter (scripts/setup.sh), then runs all tests, fast layers first, the documentation's
# examples, and the main job. Prints the adapter that the GPU tests ran on.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
# Mesa complains on stderr without it.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
# One profile for tests and examples: the dependencies are built once.
cargo run --quiet --release -- devices
cargo test --release --all-features
cargo run --quiet --release --example pronounce
