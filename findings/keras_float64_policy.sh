#!/usr/bin/env bash
# Keras 3.15.1 with the NumPy backend: under the float64 policy a Dense layer says that its kernel is float64 (`kernel.dtype`), but the
# array in it is float32; of a float64 input it gives a float32 array, and so does whatever is behind it. Nothing is said.
# `keras.backend.result_type("float64", "float64")` is float32. Reference values of a model that are to be exact in 64 bits have to be computed by
# hand. (The backend also imports SciPy and JAX, which Keras does not ask pip for.)
#
# Prints the types and the error of a layer beside the same in NumPy, and fails if Keras computes in float64.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 numpy==2.2.6 scipy==1.15.3 jax==0.6.2 jaxlib==0.6.2
KERAS_BACKEND=numpy KERAS_HOME="$folder" "$folder/venv/bin/python" - <<'PY'
import sys
import keras
import numpy as np

keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
x = np.random.default_rng(1).standard_normal((4, 3))
dense = keras.layers.Dense(5)
y = np.asarray(dense(x))
weights = np.asarray(dense.kernel)
error = np.abs(y - (x @ weights + np.asarray(dense.bias))).max()
both = keras.backend.result_type("float64", "float64")
said = dense.kernel.dtype
print(f"keras {keras.__version__}, {keras.backend.backend()}: x {x.dtype}; kernel says {said}, is {weights.dtype}; y {y.dtype}")
print(f"result_type of two float64: {both}")
print(f"largest difference from the same in float64 by hand: {error:.1e}")
as_said = (said, str(weights.dtype), str(y.dtype), both) == ("float64", "float32", "float32", "float32") and error > 1e-10
sys.exit(not as_said)
PY
