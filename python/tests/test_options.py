"""What layers have beyond PyTorch's: every option, against a loop in NumPy or what must hold of it; in float64, and gradients by finite
differences."""

import numpy as np
import pytest

import wgpu_rnn
from wgpu_rnn import GRU, LSTM, RNN, errors


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def lstm_loop(x, p, h, c, *, peepholes=None, clip=np.inf, cell_clip=np.inf, zoneout=(0.0, 0.0), input_forget=False, resets=None):
    """One layer in one direction, step by step: x [T, B, I]."""
    ys, start = [], (h, c)
    limit = lambda v: np.clip(v, -clip, clip)
    p_i, p_f, p_o = np.zeros((3, 1)) if peepholes is None else peepholes
    for t in range(len(x)):
        if resets is not None:
            h = np.where(resets[t][:, None], start[0], h)
            c = np.where(resets[t][:, None], start[1], c)
        i, f, g, o = np.split(x[t] @ p["weight_ih_l0"].T + p["bias_ih_l0"] + h @ p["weight_hh_l0"].T + p["bias_hh_l0"], 4, axis=1)
        i = sigmoid(limit(i + p_i * c))
        f = 1 - i if input_forget else sigmoid(limit(f + p_f * c))
        own = np.clip(f * c + i * np.tanh(limit(g)), -cell_clip, cell_clip)
        o = sigmoid(limit(o + p_o * own))
        # As in the paper, h is made of the cell's own c.
        h = zoneout[0] * h + (1 - zoneout[0]) * o * np.tanh(np.clip(own, -clip, clip))
        c = zoneout[1] * c + (1 - zoneout[1]) * own
        ys.append(h)
    return np.array(ys), h, c


# Options are numbers of 32 bits; these have them exactly.
CASES = [
    {},
    {"peepholes": True},
    {"clip": 0.375},
    {"cell_clip": 0.25},
    {"input_forget": True},
    {"zoneout": (0.25, 0.125)},
    {"zoneout": 0.125, "clip": 0.5},
    {"resets": "initial"},
    {"resets": "zero"},
]


@pytest.mark.parametrize("options", CASES, ids=str)
def test_an_lstm_is_the_loop(options, rng):
    lstm = LSTM(3, 5, dtype=np.float64, device="cpu", seed=3, **options).eval()
    p = lstm.state_dict()
    x, h0, c0 = rng.standard_normal((7, 2, 3)), rng.standard_normal((1, 2, 5)), rng.standard_normal((1, 2, 5))
    loop = {name: value for name, value in options.items() if name not in ("peepholes", "zoneout", "resets")}
    if "peepholes" in options:
        loop["peepholes"] = p["weight_unit_l0"]
    if "zoneout" in options:
        loop["zoneout"] = options["zoneout"] if isinstance(options["zoneout"], tuple) else (options["zoneout"],) * 2
    resets = None
    if "resets" in options:
        resets = loop["resets"] = rng.random((7, 2)) < 0.4
        if options["resets"] == "zero":
            # A loop's start is where it resets to.
            resets[0] = loop["resets"][0] = True
            y, hn, cn = lstm_loop(x, p, np.zeros((2, 5)), np.zeros((2, 5)), **loop)
        else:
            y, hn, cn = lstm_loop(x, p, h0[0], c0[0], **loop)
    else:
        y, hn, cn = lstm_loop(x, p, h0[0], c0[0], **loop)
    for mode in (True, False):
        if mode and "zoneout" in options:
            continue
        lstm.train(mode)
        own, (own_h, own_c) = lstm(x, (h0, c0), resets=resets)
        for a, b in ((own, y), (own_h[0], hn), (own_c[0], cn)):
            np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda **m: LSTM(3, 4, peepholes=True, **m),
        lambda **m: LSTM(3, 4, layer_norm=True, **m),
        lambda **m: LSTM(3, 4, 2, proj_size=2, bidirectional=True, batch_first=True, **m),
        lambda **m: LSTM(3, 4, zoneout=(0.2, 0.1), **m),
        lambda **m: LSTM(3, 4, 2, dropout=0.4, input_dropout=0.2, recurrent_dropout=0.2, **m),
        lambda **m: LSTM(3, 4, clip=0.4, cell_clip=0.3, **m),
        lambda **m: LSTM(3, 4, input_forget=True, bias="one", **m),
        lambda **m: GRU(3, 4, reset_before=True, reverse=True, **m),
        lambda **m: GRU(3, 4, layer_norm=True, bias="recurrent", **m),
        lambda **m: GRU(3, 4, 2, recurrence="heads:2", zoneout=0.2, **m),
        lambda **m: GRU(3, 4, 2, bias=False, bidirectional=True, memory="recompute", **m),
        lambda **m: RNN(3, 4, nonlinearity="relu", recurrence="diagonal", **m),
        lambda **m: RNN(3, 4, 3, recurrent_dropout=0.3, memory="checkpoint=64", **m),
        lambda **m: RNN(3, 4, resets="initial", **m),
    ],
)
@pytest.mark.parametrize("mode", [True, False])
def test_gradients_are_those_of_finite_differences(make, mode, rng):
    layer = make(dtype=np.float64, device="cpu", seed=5).train(mode)
    x = rng.standard_normal((2, 6, 3) if layer.batch_first else (6, 2, 3))
    stacked, state = layer.num_layers * (2 if layer.bidirectional else 1), layer.proj_size or 4
    h0, c0 = rng.standard_normal((stacked, 2, state)), rng.standard_normal((stacked, 2, 4))
    is_lstm, lengths = isinstance(layer, LSTM), [6, 4]
    resets = rng.random(x.shape[:2]) < 0.3 if layer._made["wish"]["resets"] else None
    up = None

    def loss():
        nonlocal up
        layer.set_seed(9)
        y, last = layer(x, (h0, c0) if is_lstm else h0, lengths=lengths, resets=resets)
        out = [y, *(last if is_lstm else (last,))]
        up = up or [rng.standard_normal(value.shape) for value in out]
        return sum((u * value).sum() for u, value in zip(up, out))

    loss()
    g = layer.backward(*up)
    epsilon = 1e-6

    def check(array, gradient, changed=lambda: None):
        for _ in range(4):
            at = tuple(rng.integers(size) for size in array.shape)
            values = []
            for side in (epsilon, -epsilon):
                array[at] += side
                changed()
                values.append(loss())
                array[at] -= side
            changed()
            np.testing.assert_allclose(gradient[at], (values[0] - values[1]) / (2 * epsilon), rtol=1e-4, atol=1e-6)

    check(x, g.x)
    check(h0, g.h0)
    if is_lstm:
        check(c0, g.c0)
    params = layer.state_dict()
    for name in params:
        check(params[name], g.params[name], lambda: layer.load_state_dict(params))


def test_dropout_is_trainings_alone_and_follows_the_seed(rng):
    lstm = LSTM(4, 8, 2, dropout=0.5, device="cpu", seed=1)
    x = rng.standard_normal((5, 3, 4)).astype(np.float32)
    first, second = lstm(x)[0], lstm(x)[0]
    assert not np.array_equal(first, second)
    lstm.set_seed(1)
    assert np.array_equal(lstm(x)[0], first) and np.array_equal(lstm(x)[0], second)
    # The masks do not depend on what else was called.
    lstm.set_seed(1)
    lstm(x[:2])
    assert np.array_equal(lstm(x)[0], second)
    lstm.eval()
    assert np.array_equal(lstm(x)[0], lstm(x)[0])


@pytest.mark.parametrize("weight_format", ["f16", "bf16", "int8"])
def test_weight_formats(weight_format, rng):
    full = LSTM(16, 32, device="cpu", seed=1).eval()
    small = LSTM(16, 32, device="cpu", seed=1, weight_format=weight_format).eval()
    x = rng.standard_normal((5, 3, 16)).astype(np.float32)
    difference = np.abs(full(x)[0] - small(x)[0]).max()
    assert 0 < difference < 0.05
    if weight_format == "int8":
        with pytest.raises(errors.Error, match="int8"):
            small.train()(x)


def test_a_reverse_layer_is_the_second_half_of_a_bidirectional_one(rng):
    both = LSTM(3, 5, bidirectional=True, device="cpu", seed=2).eval()
    back = LSTM(3, 5, reverse=True, device="cpu").eval()
    back.load_state_dict({name.removesuffix("_reverse"): v for name, v in both.state_dict().items() if name.endswith("_reverse")})
    x = rng.standard_normal((6, 2, 3)).astype(np.float32)
    assert np.array_equal(both(x)[0][..., 5:], back(x)[0])


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: LSTM(0, 5), errors.MismatchError, "input_size"),
        (lambda: LSTM(3, 5, num_layers=0), errors.MismatchError, "num_layers"),
        (lambda: LSTM(3, 5, proj_size=5), errors.MismatchError, "proj_size"),
        (lambda: LSTM(3, 5, dropout=1.0), errors.MismatchError, "dropout"),
        (lambda: LSTM(3, 5, bias="three"), errors.MismatchError, "two, one, recurrent, none"),
        (lambda: LSTM(3, 5, memory="much"), errors.MismatchError, "memory"),
        (lambda: LSTM(3, 5, memory="checkpoint=0"), errors.MismatchError, "memory"),
        (lambda: LSTM(3, 5, resets="now"), errors.MismatchError, "resets"),
        (lambda: LSTM(3, 5, clip=-1.0), errors.MismatchError, "clip"),
        (lambda: LSTM(3, 5, recurrence="heads:2"), errors.MismatchError, "divisor"),
        (lambda: LSTM(3, 5, weight_format="f8"), errors.MismatchError, "f16"),
        (lambda: LSTM(3, 5, dtype=np.float16), errors.MismatchError, "float32 or float64"),
        (lambda: LSTM(3, 5, device="npu"), errors.MismatchError, "cpu:THREADS"),
        (lambda: LSTM(3, 5, device="cpu:0"), errors.MismatchError, "threads"),
        (lambda: LSTM(3, 5, device="gpu:99"), errors.NoAdapterError, "adapter"),
        (lambda: LSTM(3, 5, peepholes=True, layer_norm=True), errors.UnsupportedError, "peepholes"),
        (lambda: LSTM(3, 5, bidirectional=True, reverse=True), errors.UnsupportedError, "reverse"),
        (lambda: GRU(3, 5, reset_before=True, layer_norm=True), errors.UnsupportedError, "reset_before"),
        (lambda: RNN(3, 5, nonlinearity="sin"), errors.MismatchError, "tanh or relu"),
        (lambda: LSTM(1 << 20, 1 << 20), errors.LimitError, "parameters"),
    ],
)
def test_what_there_is_not_is_refused(make, kind, words):
    with pytest.raises(kind, match=words) as caught:
        make()
    assert isinstance(caught.value, wgpu_rnn.Error)


@pytest.mark.parametrize("make", [lambda: LSTM(2**70, 5), lambda: LSTM(-1, 5), lambda: LSTM("3", 5), lambda: LSTM(3, 5, clip="x")])
def test_what_is_no_size_is_pythons_error(make):
    with pytest.raises((TypeError, OverflowError)):
        make()
