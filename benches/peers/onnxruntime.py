#!/usr/bin/env python3
"""Times a peer and this crate in turn, in one run: f32, one layer, one direction.

usage: python3 benches/peers/onnxruntime.py [cpu|shapes|int8|torch|webgpu] [ROUNDS]

  cpu     ONNX Runtime's CPU provider beside this crate's CPU executor, forward     needs: pip install onnxruntime==1.32.0 onnx numpy
  shapes  the same in the shapes of published models
  int8    its DynamicQuantizeLSTM beside int8 weights here, and those beside f32
  torch   PyTorch on the CPU, forward and backward                                  needs: pip install torch numpy
  webgpu  its WebGPU provider beside this crate's GPU executor, forward             needs also: pip install onnxruntime-ep-webgpu==0.4.0
          on the first adapter; on Mesa's software Vulkan, which the provider wants newer than Debian 12's:
          ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER=1 VK_DRIVER_FILES=$(benches/peers/mesa25.sh DIR) python3 ...

and target/release/wgpu-rnn (cargo build --release), or another build of it that the environment variable WGPU_RNN names. Prints a
row per case: the median over rounds of each side's median over runs (and the minimum of all), and the median ratio ours / theirs.
Both sides end a webgpu run with y in host memory. Its output is held against its CPU provider's first, ours against the f64 oracle.
WGPU_RNN_INSTRUCTIONS=avx2 measures this crate alone on narrower instructions: the peer keeps the machine's widest.
"""
import json, os, statistics, subprocess, sys, tempfile, time
sys.path.pop(0)  # this file's folder, else the file would stand for the package of its name
import numpy as np

what = sys.argv[1] if len(sys.argv) > 1 else "cpu"
rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
assert what in ("cpu", "shapes", "int8", "torch", "webgpu"), __doc__
SMALL = [(100, 1, 64, 64), (100, 16, 64, 64), (100, 16, 256, 256)]
LARGE = [(50, 32, 512, 512), (20, 1, 256, 1024)]
STREAMS = [(1, 16, 128, 128), (1, 64, 128, 128), (1, 1000, 128, 128)]
BOTH = ("lstm", "gru")
CASES = {
    "cpu": [(cell, *size) for cell in BOTH for size in SMALL + LARGE] + [("lstm", *size) for size in STREAMS],
    # Silero, TEN VAD, DeepFilterNet3, ddddocr, nakdimon, tesseract, Resemblyzer, indicate, nh3pred (one layer and direction of each).
    "shapes": [("lstm", 1, 1, 128, 128), ("lstm", 1, 1, 80, 64), ("gru", 100, 1, 256, 256), ("gru", 1, 1, 256, 256),
               ("lstm", 40, 1, 512, 512), ("lstm", 90, 1, 400, 400), ("lstm", 200, 1, 96, 192), ("lstm", 160, 4, 40, 256),
               ("lstm", 20, 1, 256, 1024), ("rnn-tanh", 168, 1, 119, 512)],
    "int8": [("lstm", 100, 1, 512, 512), ("lstm", 20, 1, 256, 1024)],
    "torch": [(cell, *size) for cell in BOTH for size in SMALL + [(50, 32, 512, 512), (20, 64, 1024, 1024)]],
    "webgpu": [(cell, *size) for cell in BOTH for size in SMALL],
}[what]
RUNS = {"webgpu": 5, "torch": 10}.get(what, 30)
GATES = {"lstm": 4, "gru": 3, "rnn-tanh": 1}


def model(cell, t, b, i, h, rng):
    """One node with random weights."""
    from onnx import TensorProto, helper, numpy_helper
    gates, op = GATES[cell], cell.split("-")[0].upper()
    bound = 1 / np.sqrt(h)
    tensor = lambda name, *shape: numpy_helper.from_array(rng.uniform(-bound, bound, shape).astype(np.float32), name)
    extra = {"linear_before_reset": 1} if cell == "gru" else {}
    node = helper.make_node(op, ["X", "W", "R", "B"], ["Y"], hidden_size=h, **extra)
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    weights = [tensor("W", 1, gates * h, i), tensor("R", 1, gates * h, h), tensor("B", 1, 2 * gates * h)]
    graph = helper.make_graph([node], "layer", [value("X", [t, b, i])], [value("Y", [t, 1, b, h])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def quantised(model):
    """The same with 8-bit weights, by ONNX Runtime's own tool."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("f32.onnx", "int8.onnx")]
        onnx.save(model, paths[0])
        quantize_dynamic(*paths, weight_type=QuantType.QInt8)
        result = onnx.load(paths[1])
    assert [n.op_type for n in result.graph.node] == ["DynamicQuantizeLSTM"]
    return result


def peer(case):
    """What runs it once."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (case[1], case[2], case[3])).astype(np.float32)
    if what == "torch":
        return torch_run(case, x)
    import onnxruntime
    made = model(*case, rng)
    bytes_ = (quantised(made) if what == "int8" else made).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    session = onnxruntime.InferenceSession(bytes_, options, providers=["CPUExecutionProvider"])
    names.add(f"ONNX Runtime {onnxruntime.__version__}, {'WebGPU' if what == 'webgpu' else 'CPU'} provider")
    if what == "webgpu":
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Else it would fall back to the CPU without a word.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_provider_for_devices(webgpu_devices()[:1], {})
        cpu, session = session, onnxruntime.InferenceSession(bytes_, options)
        error = float(np.abs(session.run(None, {"X": x})[0] - cpu.run(None, {"X": x})[0]).max())
        assert error < 1e-4, f"{case}: its WebGPU provider is off its CPU provider by {error}"
    return lambda: session.run(None, {"X": x})


def torch_run(case, x):
    """A forward and backward pass; gradients of x and of all parameters."""
    import torch
    torch.set_num_threads(os.cpu_count())
    names.add(f"PyTorch {torch.__version__}, CPU")
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[case[0]](case[3], case[4])
    x = torch.from_numpy(x).requires_grad_(True)
    dy = torch.rand(case[1], case[2], case[4])

    def run():
        layer.zero_grad(set_to_none=True)
        x.grad = None
        layer(x)[0].backward(dy)
    return run


def webgpu_devices(registered=[]):
    import onnxruntime
    import onnxruntime_ep_webgpu as plugin
    if not registered:
        onnxruntime.register_execution_provider_library("webgpu", plugin.get_library_path())
        registered.append(True)
    found = [d for d in onnxruntime.get_ep_devices() if d.ep_name == plugin.get_ep_name()]
    assert found, "its WebGPU provider found no adapter"
    return found


def theirs(run):
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times), min(times)


def ours(cell, t, b, i, h, *more):
    device = ["gpu", "--read-y"] if what == "webgpu" else ["cpu"]
    command = [os.environ.get("WGPU_RNN", "target/release/wgpu-rnn"), "bench", "--cell", cell, "--time", t, "--batch", b,
               "--input", i, "--hidden", h, "--runs", RUNS, "--json", "--device", *device, *more]
    out = json.loads(subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout)
    assert out["verified"], out
    adapters.add(out["adapter"])
    return out["median_ms"], out["min_ms"]


def row(name, case, pairs):
    mine, other = (f"{statistics.median(p[n][0] for p in pairs):.3f} ({min(p[n][1] for p in pairs):.3f})" for n in (0, 1))
    ratio = statistics.median(a[0] / b[0] for a, b in pairs)
    print(f"| {name} | {', '.join(map(str, case[1:]))} | {mine} | {other} | {ratio:.2f} |", flush=True)


adapters, names = set(), set()
more = {"int8": ["--weight-format", "int8"], "torch": ["--train"]}.get(what, [])
print("| cell | T, B, I, H | wgpu-rnn | peer | wgpu-rnn / peer |\n|---|---|---|---|---|")
for case in CASES:
    run = peer(case)
    theirs(run)
    row(case[0], case, [(ours(*case, *more), theirs(run)) for _ in range(rounds)])
    if what == "int8":
        row(f"{case[0]}, int8 beside f32 here", case, [(ours(*case, *more), ours(*case)) for _ in range(rounds)])
cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), "a CPU")
forced = os.environ.get("WGPU_RNN_INSTRUCTIONS")
print(f"\n{', '.join(names)}, beside wgpu-rnn on {', '.join(adapters)}{f' ({forced})' if forced else ''}; {rounds} rounds in turn, "
      f"medians (minima) of {RUNS} runs, ms; {os.cpu_count()} threads each; {cpu}")
