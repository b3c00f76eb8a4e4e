#!/usr/bin/env python3
"""Times ONNX Runtime and this crate in turn, in one run: f32, one layer, one direction, forward.

usage: python3 benches/peers/onnxruntime.py [cpu|webgpu] [ROUNDS]

  cpu     its CPU provider beside this crate's CPU executor     needs: pip install onnxruntime==1.31.1 onnx numpy
  webgpu  its WebGPU provider beside this crate's GPU executor  needs also: pip install onnxruntime-ep-webgpu==0.4.0
          on the first adapter; on Mesa's software Vulkan, which the provider wants newer than Debian 12's:
          ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER=1 VK_DRIVER_FILES=$(benches/peers/mesa25.sh DIR) python3 ...

and target/release/wgpu-rnn (cargo build --release). Prints a row per case: the median over rounds of each side's median over
runs (and the minimum of all), and the median ratio ours / theirs. Both sides end a webgpu run with y in host memory. Its output is held against
its CPU provider's first, ours against the f64 oracle.
"""
import json, statistics, subprocess, sys, time
sys.path.pop(0)  # this file's folder, else the file would stand for the package of its name
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

provider = sys.argv[1] if len(sys.argv) > 1 else "cpu"
rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
assert provider in ("cpu", "webgpu"), __doc__
SIZES = [(100, 1, 64, 64), (100, 16, 64, 64), (100, 16, 256, 256)] + ([(50, 32, 512, 512)] if provider == "cpu" else [])
CASES = [(cell, *size) for cell in ("lstm", "gru") for size in SIZES]
RUNS = 30 if provider == "cpu" else 5


def model(cell, t, b, i, h, rng):
    """One LSTM or GRU node with random weights."""
    gates = {"lstm": 4, "gru": 3}[cell]
    bound = 1 / np.sqrt(h)
    tensor = lambda name, *shape: numpy_helper.from_array(rng.uniform(-bound, bound, shape).astype(np.float32), name)
    extra = {"linear_before_reset": 1} if cell == "gru" else {}
    node = helper.make_node(cell.upper(), ["X", "W", "R", "B"], ["Y"], hidden_size=h, **extra)
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    weights = [tensor("W", 1, gates * h, i), tensor("R", 1, gates * h, h), tensor("B", 1, 2 * gates * h)]
    graph = helper.make_graph([node], "layer", [value("X", [t, b, i])], [value("Y", [t, 1, b, h])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def peer(case):
    """A session, and what it reads."""
    rng = np.random.default_rng(1)
    bytes_ = model(*case, rng)
    feed = {"X": rng.uniform(-1, 1, (case[1], case[2], case[3])).astype(np.float32)}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    cpu = onnxruntime.InferenceSession(bytes_, options, providers=["CPUExecutionProvider"])
    if provider == "cpu":
        return cpu, feed
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Else it would fall back to the CPU without a word.
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_provider_for_devices(webgpu_devices()[:1], {})
    session = onnxruntime.InferenceSession(bytes_, options)
    error = float(np.abs(session.run(None, feed)[0] - cpu.run(None, feed)[0]).max())
    assert error < 1e-4, f"{case}: its WebGPU provider is off its CPU provider by {error}"
    return session, feed


def webgpu_devices(registered=[]):
    import onnxruntime_ep_webgpu as plugin
    if not registered:
        onnxruntime.register_execution_provider_library("webgpu", plugin.get_library_path())
        registered.append(True)
    found = [d for d in onnxruntime.get_ep_devices() if d.ep_name == plugin.get_ep_name()]
    assert found, "its WebGPU provider found no adapter"
    return found


def theirs(session, feed):
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        session.run(None, feed)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times), min(times)


def ours(cell, t, b, i, h):
    device = ["cpu"] if provider == "cpu" else ["gpu", "--read-y"]
    command = ["target/release/wgpu-rnn", "bench", "--cell", cell, "--time", t, "--batch", b,
               "--input", i, "--hidden", h, "--runs", RUNS, "--json", "--device", *device]
    out = json.loads(subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout)
    assert out["verified"], out
    adapters.add(out["adapter"])
    return out["median_ms"], out["min_ms"]


adapters = set()
print(f"ONNX Runtime {onnxruntime.__version__}, {provider} provider, beside wgpu-rnn on the {'CPU' if provider == 'cpu' else 'GPU'} "
      f"executor; {rounds} rounds in turn, medians (minima) of {RUNS} runs, ms\n")
print("| cell | T, B, I, H | wgpu-rnn | ONNX Runtime | wgpu-rnn / ONNX Runtime |\n|---|---|---|---|---|")
for case in CASES:
    session, feed = peer(case)
    theirs(session, feed)
    pairs = [(ours(*case), theirs(session, feed)) for _ in range(rounds)]
    mine, other = (f"{statistics.median(p[n][0] for p in pairs):.3f} ({min(p[n][1] for p in pairs):.3f})" for n in (0, 1))
    ratio = statistics.median(a[0] / b[0] for a, b in pairs)
    print(f"| {case[0]} | {', '.join(map(str, case[1:]))} | {mine} | {other} | {ratio:.2f} |", flush=True)
print(f"\nadapter: {', '.join(adapters)}")
