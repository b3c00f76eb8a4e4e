#!/usr/bin/env python3
"""Times ONNX Runtime's CPU provider and this crate's CPU executor in turn, in one run: f32, one layer, one direction.

usage: python3 benches/peers/onnxruntime.py [ROUNDS]        needs: pip install onnxruntime onnx numpy; cargo build --release

Prints a row per case: the median over rounds of each side's median over runs, and the ratio ours / theirs.
"""
import json, statistics, subprocess, sys, time
sys.path.pop(0)  # this file's folder, else the file would stand for the package of its name
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CASES = [("lstm", 100, 1, 64, 64), ("lstm", 100, 16, 64, 64), ("lstm", 100, 16, 256, 256), ("lstm", 50, 32, 512, 512),
         ("gru", 100, 1, 64, 64), ("gru", 100, 16, 64, 64), ("gru", 100, 16, 256, 256), ("gru", 50, 32, 512, 512)]
RUNS = 30


def peer(cell, t, b, i, h):
    """A session over one LSTM or GRU node with random weights."""
    gates = {"lstm": 4, "gru": 3}[cell]
    rng = np.random.default_rng(1)
    bound = 1 / np.sqrt(h)
    tensor = lambda name, *shape: numpy_helper.from_array(rng.uniform(-bound, bound, shape).astype(np.float32), name)
    extra = {"linear_before_reset": 1} if cell == "gru" else {}
    node = helper.make_node(cell.upper(), ["X", "W", "R", "B"], ["Y"], hidden_size=h, **extra)
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    weights = [tensor("W", 1, gates * h, i), tensor("R", 1, gates * h, h), tensor("B", 1, 2 * gates * h)]
    graph = helper.make_graph([node], "layer", [value("X", [t, b, i])], [value("Y", [t, 1, b, h])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, {"X": rng.uniform(-1, 1, (t, b, i)).astype(np.float32)}


def theirs(session, feed):
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        session.run(None, feed)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def ours(cell, t, b, i, h):
    command = ["target/release/wgpu-rnn", "bench", "--device", "cpu", "--cell", cell, "--time", t, "--batch", b,
               "--input", i, "--hidden", h, "--runs", RUNS, "--json"]
    out = json.loads(subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout)
    assert out["verified"], out
    return out["median_ms"]


rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
print(f"ONNX Runtime {onnxruntime.__version__} CPU provider, 2 threads; {rounds} rounds in turn, medians of {RUNS} runs")
print("| cell | T, B, I, H | wgpu-rnn CPU, ms | ONNX Runtime CPU, ms | ratio |\n|---|---|---|---|---|")
for case in CASES:
    session, feed = peer(*case)
    pairs = [(ours(*case), theirs(session, feed)) for _ in range(rounds)]
    mine, other = (statistics.median(p[n] for p in pairs) for n in (0, 1))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"| {case[0]} | {', '.join(map(str, case[1:]))} | {mine:.3f} | {other:.3f} | {ratio:.2f} |", flush=True)
