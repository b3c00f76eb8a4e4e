#!/usr/bin/env bash
# Keras 3.15.1 does not read .hdf5 models that tf.keras 2 wrote with the defaults of its own layers. `load_model` stops at
# `"time_major": false` of LSTM, the default ("Unrecognized keyword arguments"); without that key, at the plain name of a layer inside
# TimeDistributed or Bidirectional ("Could not locate class 'Dense'"), though it finds the same name outside of one. With the key taken
# out and the class named in `custom_objects` the file loads, and gives other values without a word: `hard_sigmoid`, the gates' default
# in tf.keras 1, was clip(0.2 x + 0.5) when the file was written and is clip(x / 6 + 0.5) in Keras 3. Models in PyPI's astrorapid 0.2.17
# and nakdimon 0.1.2 are such files.
#
# Prints what Keras says of a file of astrorapid's at each step, and what hard_sigmoid makes of its outputs; fails if Keras does anything
# else.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" --quiet --disable-pip-version-check)
"${pip[@]}" install keras==3.15.1 numpy==2.2.6 h5py==3.16.0 scipy==1.15.3 jax==0.6.2 jaxlib==0.6.2
"${pip[@]}" download --no-deps --no-binary=:none: -d "$folder/package" astrorapid==0.2.17
KERAS_BACKEND=jax KERAS_HOME="$folder" "$folder/venv/bin/python" - "$folder" <<'PY'
import pathlib
import sys
import tarfile
import zipfile

import h5py
import keras
import numpy as np

folder = pathlib.Path(sys.argv[1])
(package,) = (folder / "package").iterdir()
wanted = "keras_model_old.hdf5"
if package.suffix == ".whl":
    with zipfile.ZipFile(package) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(wanted)]
        data = archive.read(name)
else:
    with tarfile.open(package) as archive:
        (name,) = [n for n in archive.getnames() if n.endswith(wanted)]
        data = archive.extractfile(name).read()
file = folder / "model.h5"
file.write_bytes(data)


def loaded(**more):
    return keras.saving.load_model(file, compile=False, **more)


def said(**more):
    try:
        return f"read, {loaded(**more).count_params()} parameters"
    except Exception as failed:
        return f"{type(failed).__name__}: {str(failed).splitlines()[0][:80]}"


as_it_is = said()
with h5py.File(file, "r+") as h5:
    config, version = h5.attrs["model_config"], h5.attrs["keras_version"]
    text = config if isinstance(config, str) else config.decode()
    h5.attrs["model_config"] = text.replace('"time_major": false, ', "").replace(', "time_major": false', "")
without = said()
classes = {"Dense": keras.layers.Dense}
named = said(custom_objects=classes)
off = None
if named.startswith("read"):
    old = {"hard_sigmoid": lambda x: keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)}
    shape = [size or 2 for size in loaded(custom_objects=classes).inputs[0].shape]
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    a, b = (np.asarray(loaded(custom_objects=more)(x)) for more in (classes, classes | old))
    off = np.abs(a - b).max() / np.abs(b).max()
print(f"keras {keras.__version__}, a file of keras {version}:")
print(f"  as it is: {as_it_is}")
print(f'  without "time_major": false: {without}')
print(f"  and with Dense in custom_objects: {named}")
print(f"  largest change of its outputs by the hard_sigmoid of then, as a share of their scale: {off}")
sys.exit(not (off is not None and off > 1e-3 and "time_major" in as_it_is and "Could not locate class 'Dense'" in without and named.startswith("read")))
PY
