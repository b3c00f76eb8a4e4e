#!/usr/bin/env bash
# Records what ONNX Runtime makes of the models that this crate exports: crates/formats/tests/data/onnx/exported, which `cargo test --test
# onnx exported` holds the exporter and the executor to. Prints how far ONNX Runtime is from this crate's f64. It needs the network.
#
#     scripts/record_exported.sh
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${RECORD_EXPORTED:-${TMPDIR:-/tmp}/record-exported}"
data=crates/formats/tests/data/onnx/exported
[ -d "$folder" ] || python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.2.6
rm -rf "$data"
WGPU_RNN_RECORD="$PWD/$data" cargo test --test onnx write_the_models -- --ignored
exec "$folder/bin/python" "$data/../record_exported.py" "$data"
