"""Whatever array comes: right results or a clear exception, never a crash."""

import numpy as np
import pytest

from wgpu_rnn import GRU, LSTM, RNN, errors


@pytest.fixture
def lstm():
    return LSTM(3, 5, 2, bidirectional=True, device="cpu", seed=1).eval()


@pytest.fixture
def x(rng):
    return rng.standard_normal((6, 4, 3)).astype(np.float32)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {
    "fortran": np.asfortranarray,
    "negative strides": lambda x: x[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "every second": lambda x: np.repeat(x, 2, axis=2)[..., ::2],
    "transposed": lambda x: x.transpose(2, 0, 1).copy().transpose(1, 2, 0),
    "read-only": read_only,
    "misaligned": lambda x: np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
    "of a subclass": lambda x: x.view(type("Own", (np.ndarray,), {})),
    "memory map": lambda x: x.view(np.memmap) if hasattr(x, "view") else x,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
def test_layouts_in_memory_do_not_matter(lstm, x, layout, training):
    lstm.train(training)
    truth, _ = lstm(x)
    gradients = lstm.backward(truth).x
    given = LAYOUTS[layout](x)
    assert np.array_equal(given, x)
    y, _ = lstm(given)
    assert np.array_equal(y, truth)
    assert np.array_equal(lstm.backward(LAYOUTS[layout](truth)).x, gradients)


def test_broadcast_states_and_batches(lstm, x):
    h = np.broadcast_to(np.float32(0.5), (4, 4, 5))
    whole = np.full((4, 4, 5), 0.5, np.float32)
    assert np.array_equal(lstm(x, (h, h))[0], lstm(x, (whole, whole))[0])
    same = np.broadcast_to(x[:, :1], x.shape)
    assert np.array_equal(lstm(same)[0], np.broadcast_to(lstm(x[:, :1])[0], (6, 4, 10)))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "bool", "complex64", ">f4", "object", "U1", "datetime64[s]"])
def test_another_type_is_refused(lstm, dtype):
    with pytest.raises(errors.DTypeError, match="x: expected float32") as caught:
        lstm(np.zeros((6, 4, 3), dtype))
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, ValueError)
    assert caught.value.what == "x" and caught.value.expected == "float32"


@pytest.mark.parametrize("value", [None, 1.5, "x", [[1.0]], object(), {}, b"1234"])
def test_what_is_no_array_is_refused(lstm, value):
    with pytest.raises(TypeError):
        lstm(value)
    with pytest.raises(TypeError):
        lstm(np.zeros((6, 4, 3), np.float32), value if value is not None else object())


def test_masks_are_not_dropped(lstm, x):
    with pytest.raises(errors.DTypeError, match="mask"):
        lstm(np.zeros((6, 4, 3), np.float32), (np.ma.masked_array(np.zeros((4, 4, 5), np.float64)), None))


def test_tensors_come_by_dlpack(lstm, x):
    class Tensor:
        """All that is asked of a tensor of another library."""

        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **kwargs):
            return self.array.__dlpack__(**kwargs)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    truth, (hn, cn) = lstm(x)
    y, _ = lstm(Tensor(x))
    assert np.array_equal(y, truth)
    assert np.array_equal(lstm(x, (Tensor(hn), Tensor(cn)))[0], lstm(x, (hn, cn))[0])
    # And go out by it.
    assert np.array_equal(np.from_dlpack(y), truth)
    lstm.load_state_dict({name: Tensor(value) for name, value in lstm.state_dict().items()})

    class Elsewhere(Tensor):
        def __dlpack__(self, **kwargs):
            raise BufferError("on a device of its own")

        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(errors.DTypeError, match="CPU's memory"):
        lstm(Elsewhere(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6, 4, 2), (6, 3), (6, 4, 3, 1), (3,), (), (4, 6, 0)])
def test_shapes_that_do_not_fit_are_named(shape, training):
    lstm = LSTM(5, 7, device="cpu").train(training)
    with pytest.raises(errors.MismatchError, match="x"):
        lstm(np.zeros(shape, np.float32))


@pytest.mark.parametrize("training", [True, False])
def test_states_and_lengths_that_do_not_fit_are_named(lstm, x, training):
    lstm.train(training)
    h = np.zeros((4, 4, 5), np.float32)
    for hx, what in [((h[:3], h), "h0"), ((h, h[:, :3]), "c0"), ((h, h[0]), "c0"), (h, "hx"), ((h,), "hx"), ((h, h, h), "hx")]:
        with pytest.raises(ValueError, match=what):
            lstm(x, hx)
    for lengths in ([6, 6, 6], [7, 1, 1, 1], [-1, 1, 1, 1], [1.5, 1, 1, 1], "6666", 6, [[6, 6, 6, 6]], [2**70, 1, 1, 1]):
        with pytest.raises((ValueError, TypeError), match="lengths"):
            lstm(x, lengths=lengths)
    with pytest.raises(errors.MismatchError, match="resets"):
        lstm(x, resets=np.zeros((6, 4), bool))
    reset = LSTM(3, 5, resets="zero", device="cpu").train(training)
    for resets in (np.zeros((6, 3), bool), np.zeros((6, 4), np.float32), [True]):
        with pytest.raises(errors.MismatchError, match="resets"):
            reset(x, resets=resets)
    gru = GRU(3, 5, device="cpu").train(training)
    with pytest.raises(errors.MismatchError, match="no pair"):
        gru(x, (h, h))
    lstm(x)
    for up, what in [((h,), "dy"), ((None, h[:1]), "dhn"), ((None, None, h[:, :1]), "dcn")]:
        with pytest.raises(errors.MismatchError, match=what):
            lstm.backward(*up)
        lstm(x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(("time", "batch"), [(0, 4), (6, 0), (0, 0)])
def test_empty_batches_give_empty_results(time, batch, batch_first, training, rng):
    lstm = LSTM(3, 5, 2, batch_first=batch_first, device="cpu").train(training)
    outer = (batch, time) if batch_first else (time, batch)
    state = rng.standard_normal((2, batch, 5)).astype(np.float32)
    y, (hn, cn) = lstm(np.zeros((*outer, 3), np.float32), (state, state))
    assert y.shape == (*outer, 5)
    # No step was taken.
    assert np.array_equal(hn, state) and np.array_equal(cn, state)
    g = lstm.backward(np.zeros_like(y), state, None)
    assert g.x.shape == (*outer, 3) and np.array_equal(g.h0, state)
    assert all(not value.any() for value in g.params.values())


def test_sequences_of_no_steps_keep_their_states(lstm, x, rng):
    h, c = (rng.standard_normal((4, 4, 5)).astype(np.float32) for _ in range(2))
    for mode in (True, False):
        y, (hn, cn) = lstm.train(mode)(x, (h, c), lengths=[6, 0, 3, 0])
        assert not y[:, 1].any() and not y[3:, 2].any()
        assert np.array_equal(hn[:, 1], h[:, 1]) and np.array_equal(cn[:, 3], c[:, 3])


def test_one_sequence_needs_no_batch(rng):
    for layer in (LSTM(3, 5, batch_first=True, device="cpu"), GRU(3, 5, device="cpu"), RNN(3, 5, device="cpu")):
        x = rng.standard_normal((7, 3)).astype(np.float32)
        for mode in (True, False):
            layer.train(mode)
            y, last = layer(x)
            whole, _ = layer(x[None] if layer.batch_first else x[:, None])
            assert y.shape == (7, 5) and np.array_equal(y, whole.reshape(7, 5))
            hn = last[0] if isinstance(last, tuple) else last
            assert hn.shape == (1, 5)
            layer(x, last)
            g = layer.backward(y)
            assert g.x.shape == x.shape and g.h0.shape == hn.shape


def test_results_are_nobodys_but_the_callers(lstm, x):
    for mode in (True, False):
        y, (hn, _) = lstm.train(mode)(x)
        kept = y.copy()
        lstm(-x)
        assert np.array_equal(y, kept) and y.flags.writeable
        y[:] = 0
        assert np.array_equal(lstm(x)[0], kept)
        # What a call has read may change before it is gone back through.
        g = lstm.backward(kept)
        x += 0
        moved = x.copy()
        lstm(moved)
        moved[:] = 7
        assert np.array_equal(lstm.backward(kept).x, g.x)
    large = np.zeros((64, 64, 3), np.float32)
    y, _ = lstm(large)
    del lstm
    assert np.isfinite(y).all()


def test_nans_stay_in_their_sequence(lstm, x):
    truth, _ = lstm(x)
    x[0, 1] = np.nan
    y, _ = lstm(x)
    assert np.isnan(y[:, 1]).any() and np.array_equal(y[:, [0, 2, 3]], truth[:, [0, 2, 3]])
    padded = x.copy()
    padded[4:] = np.nan
    y, _ = lstm(padded, lengths=[4, 4, 4, 4])
    assert np.isfinite(y[:, [0, 2, 3]]).all()
    g = lstm.backward(np.full_like(y, np.nan))
    assert np.isnan(g.x[:4]).any() and not g.x[4:].any()


def test_what_no_machine_holds_is_a_limit():
    lstm = LSTM(4096, 4, device="cpu").eval()
    huge = np.broadcast_to(np.float32(0), (1 << 22, 1 << 6, 4096))
    with pytest.raises((errors.LimitError, MemoryError)):
        lstm(huge)
