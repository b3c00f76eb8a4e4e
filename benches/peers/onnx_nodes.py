#!/usr/bin/env python3
"""Runs random RNN, LSTM and GRU nodes in ONNX Runtime and with `wgpu-rnn run --onnx`, writes them again with `wgpu-rnn export
--onnx`, and runs that in ONNX Runtime too: ragged batches, initial states, peepholes, both GRUs, every direction, f32.

usage: python3 benches/peers/onnx_nodes.py        needs: pip install onnxruntime onnx numpy; cargo build --release

Prints both differences of every node; exits with 1 if the first is over 1e-5 (values are at most about 1) or the second not 0.
"""
import os, subprocess, sys, tempfile
sys.path.pop(0)  # this file's folder, else a file in it would stand for the package of its name
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "target", "release", "wgpu-rnn")
T, B, I, H = 6, 3, 4, 5
LENGTHS = np.array([6, 3, 5], np.int32)
NODES = [("LSTM", {}, True), ("LSTM", {}, False), ("LSTM", {"activations": ["Sigmoid", "Relu", "Tanh"]}, True),
         ("GRU", {}, False), ("GRU", {"linear_before_reset": 1}, False), ("GRU", {"activations": ["Sigmoid", "Relu"]}, False),
         ("RNN", {}, False), ("RNN", {"activations": ["Relu"]}, False)]
RNG = np.random.default_rng(3)


def model(op, attributes, peepholes, direction):
    """A model of one node with constant weights, states and lengths."""
    d, g = 2 if direction == "bidirectional" else 1, {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    tensor = lambda name, *shape: numpy_helper.from_array(RNG.uniform(-.7, .7, shape).astype(np.float32), name)
    constants = [tensor("W", d, g * H, I), tensor("R", d, g * H, H), tensor("B", d, 2 * g * H),
                 numpy_helper.from_array(LENGTHS, "lengths"), tensor("h0", d, B, H)]
    outputs = ["Y", "Y_h"]
    if op == "LSTM":
        constants += [tensor("c0", d, B, H)] + ([tensor("P", d, 3 * H)] if peepholes else [])
        outputs += ["Y_c"]
    attributes = {k: v * d if k == "activations" else v for k, v in attributes.items()}
    node = helper.make_node(op, ["X"] + [c.name for c in constants], outputs, hidden_size=H, direction=direction, **attributes)
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    results = [value(name, [T, d, B, H] if name == "Y" else [d, B, H]) for name in outputs]
    graph = helper.make_graph([node], "layer", [value("X", [T, B, I])], results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def theirs(path, feed):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed)


def differences(folder, *node):
    at = lambda name: os.path.join(folder, name)
    made = model(*node)
    onnx.save(made, at("m.onnx"))
    x = RNG.uniform(-1, 1, (T, B, I)).astype(np.float32)
    np.save(at("x.npy"), x)
    y, *states = truth = theirs(at("m.onnx"), {"X": x})
    lstm = len(states) > 1
    subprocess.run([PROGRAM, "run", "--onnx", at("m.onnx"), "--device", "cpu", "--input", at("x.npy"), "--output", at("y.npy"),
                    "--hn", at("hn.npy"), *(["--cn", at("cn.npy")] if lstm else [])], check=True, capture_output=True)
    expected = [y.transpose(0, 2, 1, 3).reshape(T, B, -1), *states]
    got = [np.load(at(f"{name}.npy")) for name in ("y", "hn", "cn")[:len(expected)]]
    first = max(np.abs(e - g).max() for e, g in zip(expected, got))

    subprocess.run([PROGRAM, "export", "--onnx", at("m.onnx"), "--states", "--lengths", "--output", at("e.onnx")], check=True)
    onnx.checker.check_model(at("e.onnx"), full_check=True)
    constants = {c.name: numpy_helper.to_array(c) for c in made.graph.initializer}
    feed = {"X": x, "sequence_lens": LENGTHS, "initial_h": constants["h0"]}
    if lstm:
        feed["initial_c"] = constants["c0"]
    return first, max(np.abs(a - b).max() for a, b in zip(truth, theirs(at("e.onnx"), feed)))


worst = [0.0, 0.0]
for node in NODES:
    for direction in ("forward", "reverse", "bidirectional"):
        with tempfile.TemporaryDirectory() as folder:
            found = differences(folder, *node, direction)
        print(f"{node[0]:4} {node[1]} {'peepholes' if node[2] else ''} {direction}: {found[0]:.1e} {found[1]:.1e}", flush=True)
        worst = [max(pair) for pair in zip(worst, found)]
print(f"ONNX Runtime {onnxruntime.__version__}: run --onnx at most {worst[0]:.1e} off, exported again {worst[1]:.1e}")
sys.exit(0 if worst[0] <= 1e-5 and worst[1] == 0 else 1)
