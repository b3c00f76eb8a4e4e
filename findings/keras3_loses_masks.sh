#!/usr/bin/env bash
# Keras 3 (3.0.5 and 3.15.1): a recurrent layer that is called with a tensor as `initial_state` does not see the mask of its input, and says nothing. Its
# states and its y go on over the padding (Keras 2 stops), while the mask is handed on to the layers behind it. In a Bidirectional the layer
# forward loses the mask, and the one backward has it. So a translator as everybody writes it (Embedding(mask_zero=True), then an LSTM from
# the states of the encoder) computes another thing in Keras 3 than in Keras 2.
#
# Prints y of a GRU at a masked step, and its last state, from zeros that are not said and from zeros that are; fails if they are the same.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.6.2 jaxlib==0.6.2
KERAS_BACKEND=jax KERAS_HOME="$folder" "$folder/venv/bin/python" - <<'PY'
import sys
import keras
import numpy as np

layers = keras.layers
x, zeros = keras.Input((None, 3)), keras.Input((4,))
masked = layers.Masking(0.0)(x)
gru = layers.GRU(4, return_sequences=True, return_state=True)
model = keras.Model([x, zeros], [*gru(masked), *gru(masked, initial_state=zeros)])
data = np.random.default_rng(1).standard_normal((1, 3, 3))
data[0, 2] = 0
y, last, y_from, last_from = (np.asarray(value) for value in model([data, np.zeros((1, 4))]))
print(f"keras {keras.__version__}: at the masked step {y[0, 2].round(3)}, with initial_state {y_from[0, 2].round(3)}")
print(f"last state {last[0].round(3)}, with initial_state {last_from[0].round(3)}")
sys.exit(bool(np.allclose(last, last_from)))
PY
