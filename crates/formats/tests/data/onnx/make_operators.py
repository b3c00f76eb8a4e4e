"""Small models of the operators that whole models have, recorded with ONNX Runtime: operators/NAME/{model.onnx, in.*.npy, out.*.npy}.

Run with onnx 1.23.2, onnxruntime 1.32.0 and numpy; seeds are fixed. Every model has a GRU over its time axis where that is said, so that its
first input's axes count sequences and steps.
"""

import os
import shutil
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as P, helper as h, numpy_helper as nh

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "operators")
rng = np.random.default_rng(7)


def r(*shape):
    return rng.uniform(-1, 1, shape).astype(np.float32)


def i64(*v):
    return np.array(v, np.int64)


class Model:
    def __init__(self, name, opset=20):
        self.name, self.opset = name, opset
        self.nodes, self.tensors, self.inputs, self.outputs, self.n = [], [], {}, [], 0

    def given(self, name, value):
        self.inputs[name] = value
        return name

    def const(self, value):
        self.n += 1
        self.tensors.append(nh.from_array(np.asarray(value), f"k{self.n}"))
        return f"k{self.n}"

    def op(self, op, *inputs, outputs=1, domain="", **attributes):
        names = []
        for _ in range(outputs):
            self.n += 1
            names.append(f"v{self.n}")
        inputs = [v if isinstance(v, str) else self.const(v) for v in inputs]
        self.nodes.append(h.make_node(op, inputs, names, f"{op}_{self.n}", domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def gru(self, x, width, hidden, direction="forward", layout_bt=True, **more):
        """Over [B, T, width] (or [T, B, width]), to the same with D·hidden columns."""
        d = 2 if direction == "bidirectional" else 1
        if layout_bt:
            x = self.op("Transpose", x, perm=[1, 0, 2])
        y, last = self.op("GRU", x, r(d, 3 * hidden, width), r(d, 3 * hidden, hidden), r(d, 6 * hidden), "", *more.get("state", []), outputs=2,
                          hidden_size=hidden, direction=direction, linear_before_reset=1)
        y = self.op("Transpose", y, perm=[0, 2, 1, 3])
        y = self.op("Reshape", y, i64(0, 0, -1))
        return (self.op("Transpose", y, perm=[1, 0, 2]) if layout_bt else y), last

    def lstm(self, x, width, hidden, state=()):
        return self.op("LSTM", x, r(1, 4 * hidden, width), r(1, 4 * hidden, hidden), r(1, 8 * hidden), "", *state, outputs=3, hidden_size=hidden)

    def out(self, *names):
        self.outputs += names

    def save(self):
        kinds = {"f": P.FLOAT, "i": P.INT64, "b": P.BOOL}
        inputs = [h.make_tensor_value_info(n, P.INT32 if v.dtype == np.int32 else kinds[v.dtype.kind], v.shape) for n, v in self.inputs.items()]
        outputs = [h.make_empty_tensor_value_info(n) for n in self.outputs]
        graph = h.make_graph(self.nodes, self.name, inputs, outputs, self.tensors)
        imports = [h.make_opsetid("", self.opset), h.make_opsetid("com.microsoft", 1)]
        model = h.make_model(graph, opset_imports=imports, ir_version=9)
        model = onnx.shape_inference.infer_shapes(model)
        for o in model.graph.output:
            for v in model.graph.value_info:
                if v.name == o.name:
                    o.CopyFrom(v)
        folder = os.path.join(HERE, self.name)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        path = os.path.join(folder, "model.onnx")
        onnx.save(model, path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for name, value in self.inputs.items():
            np.save(os.path.join(folder, f"in.{name}.npy"), value)
        for out, value in zip(session.get_outputs(), session.run(None, self.inputs)):
            np.save(os.path.join(folder, f"out.{out.name}.npy"), value)


POINTWISE = [("Neg", {}), ("Abs", {}), ("Exp", {}), ("Sigmoid", {}), ("Tanh", {}), ("Relu", {}), ("Softplus", {}), ("Softsign", {}),
                           ("LeakyRelu", {"alpha": 0.2}), ("Elu", {"alpha": 0.7}), ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}), ("HardSwish", {}),
                           ("Selu", {}), ("ThresholdedRelu", {"alpha": 0.3}), ("Mish", {})]


def all_models():
    # All pointwise operators of one input on one value.
    m = Model("pointwise")
    x = m.given("x", 2 * r(2, 4, 3))
    for op, attributes in POINTWISE:
        m.out(m.op(op, x, **attributes))
    p = m.op("Add", m.op("Abs", x), np.float32(0.5))
    m.out(m.op("Log", p), m.op("Sqrt", p), m.op("Reciprocal", p))
    for power in (2.0, 3.0, 0.5, -1.0, 1.7):
        m.out(m.op("Pow", p, np.float32(power)))
    m.out(m.op("Clip", x, np.float32(-0.4), np.float32(0.6)), m.op("Clip", x, "", np.float32(0.1)), m.op("PRelu", x, r(3)))
    m.save()
    # Of several, with axes that are repeated.
    m = Model("broadcast")
    x, y = m.given("x", r(2, 4, 3)), m.given("y", r(2, 1, 3))
    for op in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Mean", "Sum"):
        m.out(m.op(op, x, y), m.op(op, x, r(3)), m.op(op, x, r(4, 1)), m.op(op, r(1, 4, 3), x))
    for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"):
        m.out(m.op("Cast", m.op(op, x, y), to=P.FLOAT), m.op("Cast", m.op(op, m.op("Relu", x), np.float32(0)), to=P.FLOAT))
    a, b = m.op("Less", x, y), m.op("Greater", x, np.float32(0.2))
    for op in ("And", "Or", "Xor"):
        m.out(m.op("Cast", m.op(op, a, b), to=P.INT64))
    m.out(m.op("Where", a, x, y), m.op("Where", m.op("Not", b), x, np.float32(-1e9)))
    m.out(m.op("Softmax", m.op("Where", b, x, np.float32(-np.inf)), axis=-1))
    m.save()
    # The same over steps: constants that differ from step to step.
    m = Model("steps")
    x = m.given("x", r(2, 4, 3))
    y, last = m.gru(x, 3, 5, "bidirectional")
    m.out(m.op("Add", y, r(1, 4, 10)), m.op("Mul", y, r(4, 1)), m.op("Add", y, r(2, 1, 1)), last)
    for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"):
        m.out(m.op(op, y, i64(1), keepdims=0), m.op(op, y, i64(-1)), m.op(op, y, i64(1, 2), keepdims=0))
    m.out(m.op("Gather", y, np.int64(-1), axis=1), m.op("Gather", y, i64(0), axis=1))
    m.out(m.op("Slice", y, i64(3), i64(4), i64(1)), m.op("Slice", y, i64(8), i64(0), i64(2), i64(-2)))
    m.save()
    m = Model("softmax")
    x = m.given("x", 5 * r(2, 3, 7))
    for axis in (-1, 1):
        m.out(m.op("Softmax", x, axis=axis), m.op("LogSoftmax", x, axis=axis))
    m.out(m.op("LayerNormalization", x, r(7), r(7)), m.op("LayerNormalization", x, r(3, 7), axis=1, epsilon=1e-3))
    m.out(m.op("BatchNormalization", x, r(3), r(3), r(3), np.abs(r(3)) + 0.1))
    m.save()
    m = Model("opset_9", 9)
    x = m.given("x", 5 * r(2, 3, 4))
    m.out(m.op("Softmax", x), m.op("Softmax", x, axis=2), m.op("Squeeze", m.op("Unsqueeze", x, axes=[0]), axes=[0]))
    m.out(m.op("Clip", x, min=-1.0, max=2.0), m.op("ReduceSum", x, axes=[1], keepdims=0))
    m.save()
    m = Model("columns")
    x = m.given("x", r(2, 4, 6))
    m.out(*m.op("Split", x, i64(1, 3), outputs=2, axis=1), *m.op("Split", x, outputs=3, axis=2, num_outputs=3))
    m.out(m.op("Concat", x, r(2, 4, 1), axis=2), m.op("Concat", x, x, axis=1), m.op("Concat", r(1, 4, 6)[[0, 0]], x, axis=1))
    m.out(m.op("Gather", x, i64(3, 0, 0), axis=1), m.op("Gather", x, np.array([[1, 2], [0, -1]], np.int64), axis=2))
    m.out(m.op("Slice", x, i64(1, 5), i64(4, 0), i64(1, 2), i64(2, -2)), m.op("Pad", x, i64(0, 1, 2, 0, 0, 1), np.float32(0.5)))
    m.out(m.op("Tile", x, i64(1, 2, 3)), m.op("Expand", m.op("Unsqueeze", x, i64(2)), i64(2, 4, 3, 6)), m.op("Transpose", x, perm=[0, 2, 1]))
    m.out(m.op("Reshape", x, i64(0, 3, -1)), m.op("Flatten", x), m.op("Reshape", m.op("Transpose", x, perm=[0, 2, 1]), i64(2, -1)))
    m.save()
    m = Model("products")
    x = m.given("x", r(2, 4, 3))
    m.out(m.op("MatMul", x, r(3, 5)), m.op("MatMul", r(5, 4), x), m.op("MatMul", x, r(3)))
    f = m.op("Reshape", x, i64(2, 12))
    m.out(m.op("Gemm", f, r(12, 5), r(5), alpha=0.5, beta=2.0), m.op("Gemm", f, r(5, 12), r(1, 5), transB=1))
    m.save()
    m = Model("tensordot", 13)
    x = m.given("x", r(2, 4, 3))
    y, _ = m.gru(x, 3, 5)
    s = m.op("Shape", y)
    flat = m.op("Reshape", y, i64(-1, 5))
    z = m.op("MatMul", flat, r(5, 6))
    m.out(m.op("Reshape", z, m.op("Concat", m.op("Slice", s, i64(0), i64(2)), i64(6), axis=0)))
    m.save()
    m = Model("dynamic_quantised")
    x = m.given("x", r(2, 4, 8))
    q, s, z = m.op("DynamicQuantizeLinear", x, outputs=3)
    w = rng.integers(-60, 60, (8, 5)).astype(np.int8)
    y = m.op("MatMulInteger", q, w, z, rng.integers(-3, 3, 5).astype(np.int8))
    m.out(m.op("Mul", m.op("Cast", y, to=P.FLOAT), m.op("Mul", s, np.float32(0.01))))
    m.save()
    # Over time and over columns.
    m = Model("convolution")
    x = m.given("x", r(2, 3, 6))
    c = m.op("Conv", x, r(4, 3, 3), r(4), pads=[1, 1])
    c = m.op("Conv", m.op("Relu", c), r(4, 2, 3), pads=[4, 0], dilations=[2], group=2)
    y, _ = m.gru(m.op("Transpose", c, perm=[2, 0, 1]), 4, 5, layout_bt=False)
    m.out(y)
    m.save()
    m = Model("convolution_columns")
    x = m.given("x", r(2, 3, 8, 5))
    c = m.op("Conv", x, r(4, 3, 3, 2), r(4), strides=[2, 1], pads=[1, 0, 1, 1])
    m.out(c, m.op("MaxPool", c, kernel_shape=[2, 2], strides=[1, 2]), m.op("AveragePool", c, kernel_shape=[3, 1]))
    m.out(m.op("GlobalAveragePool", c), m.op("GlobalMaxPool", c), m.op("Conv", x, r(6, 1, 3, 3), group=3, auto_pad="SAME_UPPER"))
    m.save()
    # Images whose width is time, half as many steps behind the convolution.
    m = Model("fewer_steps")
    x = m.given("x", r(2, 1, 4, 10))
    c = m.op("Relu", m.op("Conv", x, r(3, 1, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1]))
    c = m.op("Reshape", c, i64(2, 6, 5))
    y, _ = m.gru(m.op("Transpose", c, perm=[0, 2, 1]), 6, 5, "bidirectional")
    m.out(m.op("LogSoftmax", m.op("MatMul", y, r(10, 7)), axis=-1))
    m.save()
    m = Model("time_major")
    x = m.given("x", r(5, 2, 3))
    y, last = m.gru(x, 3, 4, layout_bt=False)
    m.out(y, last, m.op("MatMul", y, r(4, 2)))
    m.save()
    m = Model("tokens")
    ids, mask = m.given("ids", rng.integers(0, 11, (2, 6)).astype(np.int64)), m.given("mask", np.arange(6)[None] < np.array([[6], [4]]))
    e = m.op("Gather", r(11, 5), ids)
    y, _ = m.gru(e, 5, 4)
    k = m.op("Cast", m.op("Unsqueeze", mask, i64(-1)), to=P.FLOAT)
    s = m.op("ReduceSum", m.op("Mul", y, k), i64(1), keepdims=0)
    m.out(m.op("Div", s, m.op("Clip", m.op("ReduceSum", k, i64(1), keepdims=0), np.float32(1))))
    m.save()
    # An encoder whose last states are where a decoder begins, and a value per sequence at every step.
    m = Model("seq2seq")
    x, z = m.given("x", r(5, 2, 3)), m.given("z", r(3, 2, 4))
    _, hn, cn = m.lstm(x, 3, 6)
    y, _, _ = m.lstm(z, 4, 6, (hn, cn))
    m.out(y)
    m.save()
    m = Model("context")
    x, c = m.given("x", r(2, 5, 3)), m.given("c", r(2, 4))
    y, last = m.gru(x, 3, 4)
    m.out(m.op("Add", y, m.op("Unsqueeze", c, i64(1))), m.op("Mul", y, m.op("Transpose", last, perm=[1, 0, 2])))
    m.save()
    m = Model("state_in_and_out")
    x, s = m.given("x", r(1, 2, 3)), m.given("state", r(2, 2, 4))
    h0, c0 = m.op("Split", s, outputs=2, axis=0, num_outputs=2)
    y, hn, cn = m.lstm(x, 3, 4, (h0, c0))
    m.out(y, m.op("Concat", hn, cn, axis=0))
    m.save()
    m = Model("lengths")
    x, n = m.given("x", r(6, 3, 4)), m.given("n", np.array([6, 2, 4], np.int32))
    y, last = m.op("GRU", x, r(2, 15, 4), r(2, 15, 5), r(2, 30), n, outputs=2, hidden_size=5, direction="bidirectional", linear_before_reset=1)
    m.out(y, last)
    m.save()
    # Both directions by hand: steps in reverse order, a layer forward over them, and back.
    m = Model("reversed")
    x = m.given("x", r(5, 2, 3))
    turn = lambda v: m.op("Slice", v, i64(-1), i64(np.iinfo(np.int64).min), i64(0), i64(-1))
    a, _ = m.gru(x, 3, 4, layout_bt=False)
    b, last = m.gru(turn(x), 3, 4, layout_bt=False)
    b = m.op("Tanh", b)
    m.out(m.op("Concat", a, turn(b), axis=2), b, last, m.op("Gather", b, np.int64(-1), axis=0))
    m.save()
    # Convolutions over steps and over columns as quantize_dynamic writes them.
    m = Model("dynamic_quantised_conv")
    x = m.given("x", r(2, 6, 8))
    q, s, z = m.op("DynamicQuantizeLinear", m.op("Transpose", x, perm=[0, 2, 1]), outputs=3)
    y = m.op("ConvInteger", q, rng.integers(0, 255, (4, 8, 3)).astype(np.uint8), z, np.uint8(131), pads=[1, 1])
    c = m.op("Mul", m.op("Cast", y, to=P.FLOAT), m.op("Mul", s, np.float32(0.002)))
    y, _ = m.gru(m.op("Transpose", c, perm=[0, 2, 1]), 4, 5)
    m.out(c, y)
    m.save()
    # Columns that pads take from the axis itself.
    m = Model("pads")
    x = m.given("x", r(2, 3, 5))
    for mode in ("reflect", "edge", "wrap"):
        m.out(m.op("Pad", x, i64(0, 1, 3, 0, 2, 2), mode=mode))
    m.save()
    # A sequence without steps, from given states.
    m = Model("no_steps")
    x, n = m.given("x", r(5, 3, 4)), m.given("n", np.array([3, 0, 5], np.int32))
    h0, c0 = m.given("h0", r(2, 3, 3)), m.given("c0", r(2, 3, 3))
    y, hn, cn = m.op("LSTM", x, r(2, 12, 4), r(2, 12, 3), r(2, 24), n, h0, c0, outputs=3, hidden_size=3, direction="bidirectional")
    m.out(y, hn, cn, m.op("Tanh", hn), m.op("Sigmoid", cn))
    y, last = m.op("GRU", x, r(1, 9, 4), r(1, 9, 3), r(1, 18), n, r(1, 3, 3), outputs=2, hidden_size=3, linear_before_reset=1)
    m.out(y, last, m.op("Sum", last, np.float32(1)))
    m.out(*m.op("RNN", x, r(1, 3, 4), r(1, 3, 3), r(1, 6), n, r(1, 3, 3), outputs=2, hidden_size=3, direction="reverse"))
    m.save()
    # Convolutions and windows of a model whose first axis counts steps, without a recurrent node.
    m = Model("windows_time_major")
    x, z = m.given("x", r(7, 3, 4)), m.given("z", r(6, 3, 2, 5))
    c = m.op("Transpose", x, perm=[1, 2, 0])
    a = m.op("Conv", c, r(6, 2, 3), r(6), pads=[1, 1], group=2)
    b = m.op("Conv", c, r(4, 4, 2), r(4), strides=[2], dilations=[2])
    m.out(m.op("Transpose", m.op("Relu", a), perm=[2, 0, 1]), m.op("Transpose", b, perm=[2, 0, 1]))
    m.out(m.op("MaxPool", a, kernel_shape=[3], strides=[2]), m.op("AveragePool", a, kernel_shape=[2]), m.op("MaxPool", c, kernel_shape=[1], strides=[3]))
    f = m.op("Transpose", z, perm=[1, 2, 3, 0])
    f = m.op("Conv", f, r(3, 2, 3, 2), pads=[0, 1, 1, 1], strides=[2, 1])
    m.out(f, m.op("MaxPool", f, kernel_shape=[2, 3]))
    m.save()
    # pack_padded_sequence of one sequence, sorted the other way by the smallest and by negative numbers.
    m = Model("packed_one")
    x, n = m.given("x", rng.integers(0, 9, (1, 6))), m.given("n", np.array([4], np.int32))
    smallest = lambda v: m.op("TopK", v, i64(1), outputs=2, axis=-1, largest=0)
    by_length, _ = smallest(n)
    turned = m.op("Mul", m.op("Slice", by_length, i64(-1), i64(np.iinfo(np.int64).min), i64(0), i64(-1)), np.int32(-1))
    _, order = smallest(turned)
    _, back = smallest(order)
    e = m.op("Transpose", m.op("Gather", r(9, 4), m.op("Gather", x, order, axis=0), axis=0), perm=[1, 0, 2])
    y, last = m.op("GRU", e, r(2, 15, 4), r(2, 15, 5), r(2, 30), m.op("Mul", turned, np.int32(-1)), outputs=2, hidden_size=5, direction="bidirectional",
                   linear_before_reset=1)
    y = m.op("Transpose", m.op("Reshape", m.op("Transpose", y, perm=[0, 2, 1, 3]), i64(6, 1, 10)), perm=[1, 0, 2])
    m.out(m.op("Gather", y, back, axis=0), last)
    m.save()
    # Embeddings in 8 bits as quantize_dynamic writes them, and with a scale of each column.
    m = Model("dequantised")
    x = m.given("x", rng.integers(0, 9, (2, 5)))
    table = rng.integers(0, 255, (9, 4)).astype(np.uint8)
    a = m.op("DequantizeLinear", m.op("Gather", table, x), np.float32(0.01), np.uint8(127))
    b = m.op("Gather", (table // 2).astype(np.int8), x)
    b = m.op("DequantizeLinear", b, r(4), rng.integers(-9, 9, 4).astype(np.int8), axis=-1)
    y, _ = m.gru(m.op("Concat", a, b, axis=2), 8, 3)
    m.out(a, b, y)
    m.save()
    # Products by letters: a matrix of each group of columns, one of all, one on the left; groups in another order.
    m = Model("einsum")
    x = m.given("x", r(2, 5, 6))
    groups = m.op("Reshape", x, i64(0, 0, 3, 2))
    a = m.op("Einsum", groups, r(3, 2, 4), equation="btgi,gih->btgh")
    b = m.op("Einsum", r(4, 2), groups, equation="hi, btgi -> bthg")
    c = m.op("Einsum", groups, r(2, 3, 4, 2), equation="btgi,igkl->btlk")
    y, _ = m.gru(m.op("Reshape", a, i64(0, 0, -1)), 12, 3)
    m.out(a, b, c, y)
    m.save()


all_models()
