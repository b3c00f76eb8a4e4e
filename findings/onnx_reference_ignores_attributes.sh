#!/usr/bin/env bash
# onnx 1.23.2: `onnx.reference.ReferenceEvaluator` runs LSTM without its inputs and attributes `sequence_lens`, `clip` and
# `input_forget`, and says nothing: y is the same, bit for bit, with and without each. onnxruntime 1.32.0 heeds all three. Whoever takes
# the evaluator for the truth of an operator takes whole sequences for ragged ones.
#
# Prints the largest difference that each makes in both, and fails if the evaluator heeds one or onnxruntime leaves one out.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PY'
import sys
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

T, B, I, H = 4, 2, 3, 5
numbers = np.random.default_rng(1)
array = lambda *shape: numbers.uniform(-1, 1, shape).astype(np.float32)
w, r, b = array(1, 4 * H, I), array(1, 4 * H, H), array(1, 8 * H)
x = array(T, B, I)


def model(lengths=None, **attributes):
    names = ["X", "W", "R", "B"] + (["lens"] if lengths is not None else [])
    tensors = [numpy_helper.from_array(v, n) for n, v in zip("WRB", (w, r, b))]
    if lengths is not None:
        tensors.append(numpy_helper.from_array(np.array(lengths, np.int32), "lens"))
    node = helper.make_node("LSTM", names, ["Y"], hidden_size=H, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [T, B, I])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [T, 1, B, H])],
        tensors,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(made)
    return made


evaluator = lambda m: ReferenceEvaluator(m).run(None, {"X": x})[0]
runtime = lambda m: onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"X": x})[0]
plain = [run(model()) for run in (evaluator, runtime)]
assert np.abs(plain[0] - plain[1]).max() < 1e-6, "the two agree on a plain LSTM"
wrong = False
for what, other in [
    ("sequence_lens", model(lengths=[T, 1])),
    ("clip", model(clip=0.1)),
    ("input_forget", model(input_forget=1)),
]:
    ours = [float(np.abs(run(other) - before).max()) for run, before in zip((evaluator, runtime), plain)]
    print(f"{what:14} changes y by {ours[0]:.3f} in onnx {onnx.__version__}, by {ours[1]:.3f} in onnxruntime {onnxruntime.__version__}")
    wrong |= ours[0] != 0.0 or ours[1] < 1e-3
sys.exit(wrong)
PY
