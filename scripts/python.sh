#!/usr/bin/env bash
# Builds the Python package's wheel (python/) with maturin, installs it into a fresh environment, and runs its tests there. On a fresh Debian
# or Ubuntu machine it installs python3-venv by apt, where it is missing; everything else comes from PyPI, in versions of its own. The wheel
# is built in the workspace's target folder: what the other tests have compiled is not compiled again.
#
#     scripts/python.sh [--keep FOLDER]     keeps the wheel and the environment there
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
    "") folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT ;;
    --keep) folder="${2:?usage: scripts/python.sh [--keep FOLDER]}"; mkdir -p "$folder" ;;
    *) echo "usage: scripts/python.sh [--keep FOLDER]" >&2; exit 2 ;;
esac
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    command -v apt-get >/dev/null || { echo "python: Python 3.10 or later with venv is needed (Debian: python3-venv)" >&2; exit 1; }
    sudo=""
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    echo "python: installing python3-venv"
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "python: Python 3.10 or later is needed" >&2; exit 1; }
rm -rf "$folder/build" "$folder/test" "$folder/wheel"
python3 -m venv "$folder/build"
"$folder/build/bin/pip" install --quiet --disable-pip-version-check maturin==1.16.0
start=$SECONDS
"$folder/build/bin/maturin" build --release --locked --quiet --manifest-path python/Cargo.toml --interpreter python3 --out "$folder/wheel"
wheels=("$folder"/wheel/*.whl)
echo "python: ${wheels[0]##*/}, $(stat -c %s "${wheels[0]}" 2>/dev/null || wc -c <"${wheels[0]}") bytes, built in $((SECONDS - start)) s"
python3 -m venv "$folder/test"
"$folder/test/bin/pip" install --quiet --disable-pip-version-check --requirement python/tests/requirements.txt "${wheels[0]}"
"$folder/test/bin/ruff" format --quiet --no-cache --check python
"$folder/test/bin/ruff" check --quiet --no-cache python
start=$SECONDS
# Not in `python/`, whose folder `python/wgpu_rnn` has no extension module.
"$folder/test/bin/python" -m pytest --quiet --rootdir python --config-file python/pyproject.toml -p no:cacheprovider python/tests python/tests_sklearn
# ONNX's own tests of recurrent operators. (Those of scikit-learn are among the ones above.)
"$folder/test/bin/python" python/tests_onnx/onnx_backend_test.py 2>/dev/null
echo "python: tests took $((SECONDS - start)) s"
