#!/usr/bin/env bash
# Makes sure of a Vulkan adapter (scripts/setup.sh), then runs all tests, fast layers first, the documentation's examples, and
# the main job. Prints the adapter that the GPU tests ran on. `--all`: on the GPU every property with every cell and rule,
# which takes a software rasteriser's compiler more than an hour; by default each with those that between them have everything
# that kernels tell apart, and every cell and rule with all properties on the CPU executor.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
    "") ;;
    --all) export WGPU_RNN_ALL=1 ;;
    *) echo "usage: scripts/test.sh [--all]" >&2; exit 2 ;;
esac
scripts/setup.sh
# Mesa complains on stderr without it.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
# One profile and one set of features for tests and examples, and the tests' own build of the command: the dependencies are
# built once.
cargo test --release --workspace --all-features --no-run
"${CARGO_TARGET_DIR:-target}/release/wgpu-rnn" devices
cargo test --release --workspace --all-features
# The build of the tests: one by itself would have dependencies with fewer features, and compile them again.
"${CARGO_TARGET_DIR:-target}/release/examples/pronounce"
# The Python package: its wheel, and its tests in a fresh environment.
scripts/python.sh
