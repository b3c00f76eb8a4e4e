"""Runs the models of a folder with ONNX Runtime: NAME/{model.onnx, in.*.npy} gets out.*.npy; own.*.npy, this crate's f64, is compared and removed.

Run by scripts/record_exported.sh, with onnx 1.23.2, onnxruntime 1.32.0 and numpy.
"""

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
worst = 0.0
for folder in sorted(p for p in pathlib.Path(sys.argv[1]).iterdir() if p.is_dir()):
    path = folder / "model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {i.name: np.load(folder / f"in.{i.name}.npy").astype(TYPES[i.type]) for i in session.get_inputs()}
    names = [o.name for o in session.get_outputs()]
    for name, value in zip(names, session.run(names, feed)):
        own = folder / f"own.{name}.npy"
        right = np.load(own)
        assert value.shape == right.shape, (folder.name, name, value.shape, right.shape)
        off = float(np.abs(value - right).max() / max(np.abs(right).max(), 1e-30))
        print(f"{folder.name}: {name} {list(value.shape)} off by {off:.1e}")
        worst = max(worst, off)
        np.save(folder / f"out.{name}.npy", value)
        own.unlink()
print(f"largest error {worst:.1e} of a value's largest, ONNX Runtime {onnxruntime.__version__}")
