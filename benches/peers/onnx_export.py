#!/usr/bin/env python3
"""Exports trained layers to ONNX, runs them in ONNX Runtime, and holds the results against those that PyTorch recorded.

usage: python3 benches/peers/onnx_export.py        needs: pip install onnxruntime onnx numpy; cargo build --release

For every golden of one layer in tests/data/torch_golden (weights, inputs and outputs from PyTorch in float64): `wgpu-rnn export`,
onnx.checker, a run in f32. Exits with 1 if any value is more than 1e-5 of its tensor's largest off.
"""
import json, os, struct, subprocess, sys, tempfile
sys.path.pop(0)  # this file's folder, else a file in it would stand for the package of its name
import numpy as np
import onnx
import onnxruntime

TYPES = {"F64": np.float64, "F32": np.float32, "I64": np.int64, "I32": np.int32}
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
FOLDER = os.path.join(ROOT, "tests", "data", "torch_golden")


def read(path):
    """Metadata and tensors of a safetensors file."""
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__", {})
    part = lambda t: data[8 + size:][t["data_offsets"][0]:t["data_offsets"][1]]
    return metadata, {n: np.frombuffer(part(t), TYPES[t["dtype"]]).reshape(t["shape"]) for n, t in header.items()}


def cell(config):
    return {"LSTM": "lstm", "GRU": "gru"}.get(config["kind"]) or "rnn-" + config.get("nonlinearity", "tanh")


def run(path, config, tensors, model):
    """The largest difference of an exported layer's outputs, as a share of each tensor's largest value."""
    flags = [f for f, n in (("--states", "in.h0"), ("--lengths", "in.lengths")) if n in tensors]
    subprocess.run([os.path.join(ROOT, "target", "release", "wgpu-rnn"), "export", "--weights", path, "--prefix", "w.",
                    "--cell", cell(config), "--output", model, *flags], check=True)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    # ONNX Runtime takes no layout = 1: batch-first goldens are turned here.
    batch_first, unbatched = config.get("batch_first", False), config.get("unbatched", False)
    turned = lambda a: a[:, None] if unbatched else a.swapaxes(0, 1) if batch_first else a
    state = lambda a: a[:, None] if unbatched else a
    feed = {"X": turned(tensors["in.x"]).astype(np.float32)}
    for name, key in (("initial_h", "in.h0"), ("initial_c", "in.c0")):
        if key in tensors:
            feed[name] = state(tensors[key]).astype(np.float32)
    if "in.lengths" in tensors:
        feed["sequence_lens"] = tensors["in.lengths"].astype(np.int32)
    y, *states = session.run(None, feed)
    t, d, b, h = y.shape
    got = {"out.y": y.transpose(0, 2, 1, 3).reshape(t, b, d * h), "out.hn": states[0]}
    if len(states) > 1:
        got["out.cn"] = states[1]
    truth = {n: turned(tensors[n]) if n == "out.y" else state(tensors[n]) for n in got}
    return max(np.abs(got[n] - truth[n]).max() / np.abs(truth[n]).max() for n in got)


worst, count = 0.0, 0
for name in sorted(os.listdir(FOLDER)):
    path = os.path.join(FOLDER, name)
    if not name.endswith(".safetensors"):
        continue
    metadata, tensors = read(path)
    config = json.loads(metadata["config"])
    if config.get("kind") not in ("RNN", "LSTM", "GRU") or config.get("num_layers", 1) > 1 or config.get("proj_size", 0):
        continue
    with tempfile.TemporaryDirectory() as folder:
        error = run(path, config, tensors, os.path.join(folder, "layer.onnx"))
    print(f"{name.removesuffix('.safetensors'):32} {error:.2e}", flush=True)
    worst, count = max(worst, error), count + 1
print(f"ONNX Runtime {onnxruntime.__version__}: {count} layers, largest difference {worst:.2e} of a tensor's largest value")
sys.exit(0 if count and worst <= 1e-5 else 1)
