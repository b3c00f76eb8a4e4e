"""Makes the synthetic Keras models here and records what Keras makes of them in float64.

    KERAS_BACKEND=jax JAX_ENABLE_X64=1 python make.py keras3     # pip install keras "jax[cpu]" h5py
    KERAS_BACKEND=jax JAX_ENABLE_X64=1 python make.py keras30    # keras==3.0.5, numpy<2
    python make.py tf213                                         # tensorflow-cpu==2.13.1

Every case is a model file, `<case>.in.<input>.npy` and `<case>.out.<output>.npy`. Values per step are time-major, [T, B, width], ids
[T, B, 1]; Keras has [B, T, ...]. Archives are packed again with deflate, to be small.
"""

import io
import json
import os
import sys
import zipfile

import numpy as np

where = sys.argv[1]
if where == "tf213":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from tensorflow import keras
else:
    import keras
    from keras.src.backend.common import dtypes

    # Keras 3 computes in float32 whatever floatx says, but for this table (keras 3.15.1).
    dtypes.BIT64_TO_BIT32_DTYPE.clear()
L = keras.layers


def sequential():
    return keras.Sequential([
        keras.Input((None,), dtype="int32", name="ids"),
        L.Embedding(11, 4, mask_zero=True, name="embed"),
        L.Bidirectional(L.LSTM(3, return_sequences=True), name="both"),
        L.Dropout(0.5, name="drop"),
        L.LSTM(5, name="last"),
        L.Dense(3, activation="softmax", name="classes"),
    ])


def merges():
    x = keras.Input((None, 3), name="x")
    a = L.Bidirectional(L.GRU(2, return_sequences=True, reset_after=False), merge_mode="sum", name="sum")(x)
    b = L.Bidirectional(L.SimpleRNN(2, return_sequences=True, activation="relu"), merge_mode="ave", name="ave")(x)
    c = L.Bidirectional(L.LSTM(2, return_sequences=True, use_bias=False), merge_mode="mul", name="mul")(x)
    d = L.Bidirectional(L.GRU(2, use_bias=False), merge_mode="concat", name="ends")(x)
    e = L.Bidirectional(L.LSTM(2), merge_mode="ave", name="mean_end")(x)
    y = L.Concatenate(name="y")([L.Add(name="add")([a, b, c]), L.Multiply(name="product")([a, b])])
    return keras.Model(x, [y, d, e])


def functional():
    x = keras.Input((7, 4), name="x")
    a = L.Conv1D(3, 4, padding="same", activation="relu", name="same")(x)
    b = L.Conv1D(3, 2, padding="causal", dilation_rate=2, name="causal")(x)
    c = L.BatchNormalization(name="bn")(L.Concatenate(name="cat")([a, b]))
    d = L.LayerNormalization(name="ln")(L.Dense(5, activation="tanh", name="dense")(c))
    e = L.GRU(3, go_backwards=True, return_sequences=True, name="back")(d)
    f = L.TimeDistributed(L.Dense(4, activation="elu"), name="each")(e)
    g = L.Activation("hard_sigmoid", name="hard")(f)
    h = L.SimpleRNN(3, return_sequences=True, name="rnn")(g)
    i = L.LSTM(2, go_backwards=True, return_sequences=True, name="forth")(h)
    j = L.GlobalAveragePooling1D(name="mean")(i)
    k = L.GlobalMaxPooling1D(name="most")(e)
    m = L.GRU(2, go_backwards=True, name="end")(d)
    n = L.Concatenate(name="n")([j, k, m])
    o = L.Softmax(name="o")(L.Dense(4, name="scores")(L.LeakyReLU(name="leaky")(n)))
    return keras.Model(x, [e, i, o])


def flatten():
    x = keras.Input((5, 3), name="x")
    y = L.SimpleRNN(2, return_sequences=True, name="rnn")(x)
    a = L.Flatten(name="flat")(y)
    b = L.Reshape((10,), name="reshape")(L.GRU(2, go_backwards=True, return_sequences=True, name="back")(y))
    c = L.Reshape((2, 5), name="two")(L.Maximum(name="max")([a, b]))
    return keras.Model(x, L.Dense(3, activation="sigmoid", name="out")(L.Flatten(name="again")(c)))


def nested():
    inner_in = keras.Input((None, 3), name="inner_in")
    inner = keras.Model(inner_in, L.Dense(4, name="inner_dense")(L.GRU(2, return_sequences=True, name="inner_gru")(inner_in)),
                        name="encoder")
    head = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="relu", name="head_1"), L.Dense(2, name="head_2")],
                            name="head")
    x, z = keras.Input((None, 3), name="x"), keras.Input((None, 3), name="z")
    shared = L.LSTM(4, name="shared")
    a, b = shared(inner(x)), shared(inner(z))
    return keras.Model([x, z], [head(a), head(b), L.Subtract(name="diff")([a, b])])


def hard():
    x = keras.Input((None, 2), name="x")
    a = L.LSTM(3, recurrent_activation="hard_sigmoid", activation="softsign", return_sequences=True, name="lstm")(x)
    b = L.GRU(3, recurrent_activation="hard_sigmoid", activation="relu", reset_after=False, return_sequences=True, name="gru")(a)
    c = L.RNN(L.LSTMCell(2, recurrent_activation="hard_sigmoid"), return_sequences=True, name="cell")(b)
    d, h, _ = L.LSTM(2, return_sequences=True, return_state=True, name="states")(c)
    return keras.Model(x, [d, h])


def masked():
    x = keras.Input((None, 3), name="x")
    m = L.Masking(-1.0, name="mask")(x)
    a = L.LSTM(3, return_sequences=True, name="a")(L.BatchNormalization(name="bn")(m))
    b = L.GRU(2, go_backwards=True, name="b")(a)
    c = L.Bidirectional(L.GRU(2), name="c")(a)
    d = L.GlobalAveragePooling1D(name="d")(a)
    return keras.Model(x, [L.Concatenate(name="y")([b, c, d]), a])


def windows():
    """Convolutions and pooling that give other steps, with recurrent layers before, between and behind them."""
    x = keras.Input((11, 4), name="x")
    a = L.Conv1D(6, 3, activation="tanh", name="valid")(x)
    b = L.LSTM(4, return_sequences=True, name="lstm")(a)
    c = L.Conv1D(4, 3, strides=2, padding="same", groups=2, name="strided")(b)
    d = L.Bidirectional(L.GRU(3, return_sequences=True), name="both")(c)
    e = L.Conv1D(6, 2, dilation_rate=2, groups=3, padding="causal", name="grouped")(d)
    f = L.MaxPooling1D(2, padding="same", name="most")(e)
    g = L.AveragePooling1D(3, strides=1, padding="same", name="mean")(f)
    h = L.GRU(3, go_backwards=True, return_sequences=True, name="back")(a)
    i = L.Conv1D(2, 4, strides=3, padding="same", name="backwards")(h)
    j = L.Conv1D(3, 3, strides=2, padding="causal", name="causal")(x)
    k = L.MaxPooling1D(2, name="halves")(x)
    return keras.Model(x, [d, g, i, L.SimpleRNN(3, name="end")(j), k])


def kim():
    """Windows of several sizes over one text, the largest value of each."""
    x = keras.Input((None, 3), name="x")
    parts = [L.GlobalMaxPooling1D(name=f"most_{n}")(L.Conv1D(2, n, activation="relu", name=f"conv_{n}")(x)) for n in (2, 3, 4)]
    a = L.Concatenate(name="cat")(parts)
    b = L.GlobalAveragePooling1D(name="mean")(L.AveragePooling1D(2, name="pairs")(L.Dense(3, name="each")(x)))
    return keras.Model(x, L.Dense(2, name="y")(L.Concatenate(name="all")([a, b])))


def coder():
    """An encoder of a row, a decoder over other steps; steps added, cut away and repeated."""
    x = keras.Input((None, 3), name="x")
    m = L.Masking(-1.0, name="mask")(x)
    a = L.LSTM(4, name="encoder")(m)
    b = L.LSTM(3, return_sequences=True, name="decoder")(L.RepeatVector(5, name="repeat")(a))
    return keras.Model(x, L.TimeDistributed(L.Dense(2), name="y")(b))


def resized():
    x = keras.Input((None, 3), name="x")
    a = L.ZeroPadding1D((2, 1), name="pad")(x)
    b = L.GRU(2, return_sequences=True, name="gru")(a)
    c = L.Cropping1D((1, 2), name="crop")(b)
    d = L.UpSampling1D(3, name="up")(c)
    e = L.Add(name="sum")([L.SimpleRNN(2, return_sequences=True, name="rnn")(x), c])
    return keras.Model(x, [d, e])


def seq2seq():
    """Layers that begin from states that others have computed, over steps of their own: the last of one, of both directions, of all layers."""
    x, z = keras.Input((None, 3), name="x"), keras.Input((None, 2), name="z")
    y, h, c = L.LSTM(4, return_sequences=True, return_state=True, name="encoder")(x)
    a, fh, fc, bh, bc = L.Bidirectional(L.LSTM(2, return_sequences=True, return_state=True), name="both")(y)
    states = [L.Concatenate(name="h")([fh, bh]), L.Concatenate(name="c")([fc, bc])]
    d, dh, dc = L.LSTM(4, return_sequences=True, return_state=True, name="decoder")(z, initial_state=[h, c])
    e = L.LSTM(4, return_sequences=True, name="second")(d, initial_state=states)
    f = L.Bidirectional(L.LSTM(2, return_sequences=True), name="again")(x, initial_state=[fh, fc, bh, bc])
    g = L.GRU(3, go_backwards=True, name="end")(e, initial_state=L.Dense(3, activation="tanh", name="bridge")(c))
    return keras.Model([x, z], [L.Dense(3, activation="softmax", name="y")(e), f, g, dc])


def decoder():
    """As it is run step by step: states in and out."""
    x, h, c = keras.Input((None, 3), name="x"), keras.Input((4,), name="h"), keras.Input((4,), name="c")
    y, hn, cn = L.LSTM(4, return_sequences=True, return_state=True, name="lstm")(x, initial_state=[h, c])
    z = L.SimpleRNN(4, name="rnn")(L.Conv1D(2, 2, padding="causal", name="conv")(y), initial_state=h)
    return keras.Model([x, h, c], [y, hn, cn, z])


def translator():
    """Token ids, with masks of both lengths; Keras 3 loses that of the decoder (findings/keras3_loses_masks.sh)."""
    x, z = keras.Input((None,), dtype="int32", name="x"), keras.Input((None,), dtype="int32", name="z")
    _, h, c = L.LSTM(4, return_state=True, name="encoder")(L.Embedding(7, 3, mask_zero=True, name="source")(x))
    y = L.LSTM(4, return_sequences=True, name="decoder")(L.Embedding(7, 2, mask_zero=True, name="target")(z), initial_state=[h, c])
    return keras.Model([x, z], L.Dense(7, activation="softmax", name="y")(y))


def depthwise():
    x = keras.Input((None, 3), name="x")
    a = L.DepthwiseConv1D(3, depth_multiplier=2, padding="same", activation="relu", name="same")(x)
    b = L.SeparableConv1D(4, 2, depth_multiplier=2, dilation_rate=2, padding="same", activation="tanh", name="separable")(a)
    c = L.GRU(3, return_sequences=True, name="gru")(b)
    d = L.DepthwiseConv1D(2, strides=2, use_bias=False, name="strided")(c)
    e = L.SeparableConv1D(2, 3, padding="valid", use_bias=False, name="valid")(x)
    return keras.Model(x, [c, d, e])


def cudnn():
    x = keras.Input((None, 3), name="x")
    a = L.LSTM(4, return_sequences=True, name="lstm")(x)
    return keras.Model(x, L.Bidirectional(L.GRU(2), name="both")(a))


def first():
    return keras.Sequential([
        L.Embedding(7, 3, name="embedding_1"),
        L.LSTM(4, recurrent_activation="hard_sigmoid", return_sequences=True, name="lstm_1"),
        L.GRU(2, recurrent_activation="hard_sigmoid", reset_after=False, name="gru_1"),
        L.Dense(3, activation="softmax", name="dense_1"),
    ])


def as_cudnn(double, path):
    """The layers of cudnn as CuDNNLSTM and CuDNNGRU, whose weights tf.keras itself converts to those of LSTM and GRU."""
    from tensorflow.compat.v1.keras import layers as v1

    x = keras.Input((None, 3), name="x")
    a = v1.CuDNNLSTM(4, return_sequences=True, name="lstm")(x)
    model = keras.Model(x, L.Bidirectional(v1.CuDNNGRU(2), name="both")(a))
    rng = np.random.default_rng(4)
    model.set_weights([rng.normal(0, 0.7, w.shape) for w in model.get_weights()])
    model.save(path)
    double.load_weights(path)


def as_keras_1(double, path):
    """The model of first as Keras 1 wrote it: arrays for every gate, of an LSTM in the order i, c, f, o; no version."""
    import h5py

    layers = [
        ("Embedding", {"name": "embedding_1", "input_dim": 7, "output_dim": 3, "input_length": None, "mask_zero": False,
                       "batch_input_shape": [None, None], "input_dtype": "int32"}),
        ("LSTM", {"name": "lstm_1", "output_dim": 4, "activation": "tanh", "inner_activation": "hard_sigmoid",
                  "return_sequences": True, "go_backwards": False}),
        ("GRU", {"name": "gru_1", "output_dim": 2, "activation": "tanh", "inner_activation": "hard_sigmoid",
                 "return_sequences": False, "go_backwards": False}),
        ("Dense", {"name": "dense_1", "output_dim": 3, "activation": "softmax", "bias": True}),
    ]
    with h5py.File(path, "w") as f:
        config = [{"class_name": c, "config": k} for c, k in layers]
        f.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": config}).encode()
        root = f.create_group("model_weights")
        root.attrs["layer_names"] = [k["name"].encode() for _, k in layers]
        for layer in double.layers:
            values = {"W": layer.get_weights()}
            gates = {"lstm_1": "ifco", "gru_1": "zrh"}.get(layer.name)
            if gates:
                kernel, recurrent, bias = (np.split(w, len(gates), -1) for w in layer.get_weights())
                order = "icfo" if gates == "ifco" else gates
                values = {f"{p}_{g}": v[gates.index(g)] for g in order for p, v in zip("WUb", (kernel, recurrent, bias))}
            else:
                values = dict(zip("Wb", layer.get_weights()))
            group = root.create_group(layer.name)
            group.attrs["weight_names"] = [f"{layer.name}_{n}".encode() for n in values]
            for n, value in values.items():
                group.create_dataset(f"{layer.name}_{n}", data=value.astype("f4"))


LENGTHS = [6, 3, 1]


def precision(name):
    keras.backend.set_floatx(name)
    (keras.mixed_precision.set_global_policy if where == "tf213" else keras.config.set_dtype_policy)(name)


def inputs(model, case):
    rng = np.random.default_rng(len(case))
    for tensor in model.inputs:
        name = tensor.name.split(":")[0]
        # A decoder has steps of its own.
        steps = 4 if name == "z" and case == "seq2seq" else 6
        shape = [3] + [steps if d is None else int(d) for d in tensor.shape[1:]]
        if case in ("sequential", "first", "translator"):
            name, value = "embedding_1_input" if case == "first" else name, rng.integers(1, 11 if case == "sequential" else 7, shape)
        else:
            value = rng.normal(0, 1, shape)
        if case in ("sequential", "masked", "coder", "translator"):
            for row, length in enumerate(LENGTHS[::-1] if name == "z" else LENGTHS):
                value[row, length:] = 0 if case in ("sequential", "translator") else -1
        yield name, value


def time_major(value):
    if value.dtype.kind == "i":
        value = value.astype("float64")[..., None]
    return np.ascontiguousarray(value.swapaxes(0, 1) if value.ndim == 3 else value)


def packed(path):
    """The same archive with its parts packed, and without the date."""
    parts = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            parts[name] = archive.read(name)
    metadata = json.loads(parts["metadata.json"])
    parts["metadata.json"] = json.dumps({"keras_version": metadata["keras_version"]}).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED, 9)


# Which files of which case: all whole in .keras of the newest, what differs by version of the others.
FILES = {
    "keras3": {
        "sequential": ["keras", "weights.h5"],
        "merges": ["keras"],
        "functional": ["keras"],
        "flatten": ["keras"],
        "nested": ["keras", "h5"],
        "hard": ["keras"],
        "masked": ["keras"],
        "windows": ["keras"],
        "kim": ["keras"],
        "coder": ["keras"],
        "resized": ["keras"],
        "seq2seq": ["keras", "h5"],
        "decoder": ["keras"],
        "translator": ["keras"],
        "depthwise": ["keras"],
    },
    "keras30": {"nested": ["keras"]},
    "tf213": {
        "sequential": ["keras", "weights"],
        "functional": ["keras"],
        "nested": ["keras"],
        "hard": ["keras"],
        "masked": ["h5"],
        "seq2seq": ["keras"],
        "translator": ["h5"],
        "depthwise": ["keras"],
        "cudnn": [as_cudnn],
        "first": [as_keras_1],
    },
}

os.makedirs(where, exist_ok=True)
for case, kinds in FILES[where].items():
    precision("float32")
    model = globals()[case]()
    if case == "first":
        model.build((None, None))
    rng = np.random.default_rng(len(model.weights))
    values = []
    for old in model.get_weights():
        value = rng.normal(0, 0.7, old.shape)
        values.append(np.float32(value))
    # Variances are not negative.
    names = [getattr(w, "path", w.name) for w in model.weights]
    values = [np.abs(v) + np.float32(0.1) if "variance" in n else v for v, n in zip(values, names)]
    model.set_weights(values)
    for kind in kinds:
        if callable(kind):
            continue
        path = f"{where}/{case}.{kind}"
        if kind == "weights":
            path += ".h5"
            model.save_weights(f"{where}/{case}.tmp.h5", save_format="h5") if where == "tf213" else None
            os.replace(f"{where}/{case}.tmp.h5", path)
        elif kind == "weights.h5":
            model.save_weights(path)
        else:
            model.save(path)
        if kind == "keras":
            packed(path)
    # The same model in float64.
    precision("float64")
    double = globals()[case]()
    if case == "first":
        double.build((None, None))
    double.set_weights([v.astype("float64") for v in values])
    for kind in filter(callable, kinds):
        kind(double, f"{where}/{case}.h5")
    feeds = dict(inputs(double, case))
    out = double(list(feeds.values()) if len(feeds) > 1 else list(feeds.values())[0])
    out = out if isinstance(out, (list, tuple)) else [out]
    for name, value in feeds.items():
        np.save(f"{where}/{case}.in.{name}.npy", time_major(value))
    for n, value in enumerate(out):
        value = np.asarray(value)
        assert value.dtype == np.float64, value.dtype
        np.save(f"{where}/{case}.out.{n}.npy", time_major(value))
    print(where, case, [np.asarray(o).shape for o in out])
