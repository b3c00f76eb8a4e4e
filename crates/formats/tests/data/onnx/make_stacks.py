"""Stacks of layers as PyTorch exports them, and what ONNX Runtime gives: make_stacks.py (torch 2.15.0, onnxscript 0.7.1, onnxruntime 1.32.0)."""
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
import torch

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "stacks")


class Stack(torch.nn.Module):
    def __init__(self, kind, layers, bidirectional, states):
        super().__init__()
        self.rnn = kind(4, 5, layers, batch_first=True, bidirectional=bidirectional)
        self.states = states

    def forward(self, x):
        y, last = self.rnn(x)
        if not self.states:
            return y
        return (y, *last) if isinstance(last, tuple) else (y, last)


CASES = {
    "bilstm2_dyn": (torch.nn.LSTM, 2, True, True, True),
    "bigru3_dyn": (torch.nn.GRU, 3, True, True, True),
    "bilstm3_ts": (torch.nn.LSTM, 3, True, True, False),
    "bigru2_ts": (torch.nn.GRU, 2, True, False, False),
}
torch.manual_seed(5)
for name, (kind, layers, bidirectional, states, dynamo) in CASES.items():
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    module = Stack(kind, layers, bidirectional, states).eval()
    x = torch.randn(2, 7, 4)
    path = folder / "model.onnx"
    if dynamo:
        shapes = {"x": {0: torch.export.Dim("b"), 1: torch.export.Dim("t")}}
        torch.onnx.export(module, (x,), path, dynamo=True, dynamic_shapes=shapes, input_names=["x"])
    else:
        torch.onnx.export(module, (x,), path, dynamo=False, dynamic_axes={"x": {0: "b", 1: "t"}}, input_names=["x"])
    # One file, without the notes on where nodes came from.
    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:], model.metadata_props[:]
    for values in (model.graph.input, model.graph.output, model.graph.initializer):
        for value in values:
            del value.metadata_props[:]
    onnx.save(model, path)
    for other in folder.glob("*.data"):
        other.unlink()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = np.random.default_rng(9).standard_normal((3, 6, 4)).astype(np.float32)
    np.save(folder / "in.x.npy", given)
    for output, value in zip(session.get_outputs(), session.run(None, {"x": given})):
        np.save(folder / f"out.{output.name}.npy", value)
    print(name, [n.op_type for n in model.graph.node if n.op_type in ("LSTM", "GRU", "RNN")], path.stat().st_size)
