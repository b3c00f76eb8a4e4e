#!/usr/bin/env bash
# Tests `wgpu_rnn.torch` against torch itself: random configurations, torch's own inputs for its modules, gradcheck; then times `convert` and single
# calls. Outside CI: torch's wheel from PyPI brings CUDA's libraries along, some 5 GB. Its output is in docs/python.md.
#
#     scripts/python_torch.sh [FOLDER]     FOLDER keeps the environment
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-$(mktemp -d)}"
[ $# -gt 0 ] || trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder"
[ -d "$folder/venv" ] || python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check maturin==1.16.0 torch==2.15.0 numpy==2.2.6 pytest==9.2.0 hypothesis==6.170.17 \
    expecttest==0.3.0
rm -rf "$folder/wheel"
"$folder/venv/bin/maturin" build --release --locked --quiet --manifest-path python/Cargo.toml --interpreter python3 --out "$folder/wheel"
"$python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$folder"/wheel/*.whl
"$python" -m pytest --quiet --rootdir python --config-file python/pyproject.toml -p no:cacheprovider python/tests_torch
"$python" python/benches/call_overhead.py
"$python" python/benches/convert.py
