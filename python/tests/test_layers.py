"""Layers as objects: parameters, modes, order of calls, copies, threads, memory."""

import copy
import gc
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import wgpu_rnn
from wgpu_rnn import GRU, LSTM, RNN, errors


def test_parameters_have_pytorchs_names_and_shapes():
    lstm = LSTM(3, 5, 2, bidirectional=True, proj_size=2, device="cpu")
    shapes = {name: value.shape for name, value in lstm.state_dict("rnn.").items()}
    assert list(shapes)[:5] == ["rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "rnn.bias_hh_l0", "rnn.weight_hr_l0"]
    assert shapes["rnn.weight_ih_l1_reverse"] == (20, 4) and shapes["rnn.weight_hh_l0"] == (20, 2)
    bound = 1 / np.sqrt(5)
    assert all(np.abs(value).max() <= bound for value in lstm.state_dict().values())
    assert not np.array_equal(LSTM(3, 5, device="cpu").state_dict()["bias_hh_l0"], LSTM(3, 5, device="cpu").state_dict()["bias_hh_l0"])


def test_a_state_dict_is_taken_whole_or_not_at_all():
    lstm = LSTM(3, 5, device="cpu")
    before = lstm.state_dict()
    good = {name: value + 1 for name, value in before.items()}
    for bad, words in [
        ({name: value for name, value in good.items() if name != "bias_hh_l0"}, "no bias_hh_l0"),
        (good | {"weight_ih_l1": np.zeros(3, np.float32)}, "weight_ih_l1 beside"),
        (good | {"bias_hh_l0": np.zeros(19, np.float32)}, r"bias_hh_l0: expected \[20\], got \[19\]"),
        (good | {"bias_hh_l0": np.zeros(20, np.int64)}, "bias_hh_l0: expected floating-point"),
        (good | {"bias_hh_l0": [0.0] * 20}, "bias_hh_l0: expected a NumPy array"),
    ]:
        with pytest.raises(errors.MismatchError, match=words):
            lstm.load_state_dict(bad)
        assert all(np.array_equal(value, before[name]) for name, value in lstm.state_dict().items())
    lstm.load_state_dict(good | {"other.weight": np.zeros(3)}, strict=False)
    # Another type is rounded, as PyTorch does; what others hold is copied.
    lstm.load_state_dict({f"a.{name}": value.astype(np.float64) for name, value in good.items()}, prefix="a.")
    good["bias_hh_l0"][:] = 9
    assert lstm.state_dict()["bias_hh_l0"].max() < 2


def test_calls_after_new_parameters_use_them(rng):
    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    a, b = LSTM(3, 5, device="cpu", seed=1), LSTM(3, 5, device="cpu", seed=2)
    for mode in (True, False):
        a.train(mode)(x), b.train(mode)(x)
    a.load_state_dict(b.state_dict())
    for mode in (True, False):
        assert np.array_equal(a.train(mode)(x)[0], b.train(mode)(x)[0])


def test_backward_wants_a_call_before_it(rng):
    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    for mode in (True, False):
        lstm = LSTM(3, 5, device="cpu").train(mode)
        with pytest.raises(errors.OrderError, match="backward"):
            lstm.backward()
        y, _ = lstm(x)
        lstm.backward(y)
        with pytest.raises(errors.OrderError, match="none since the last backward"):
            lstm.backward(y)
        lstm(x)
        lstm.load_state_dict({name: value / 2 for name, value in lstm.state_dict().items()})
        with pytest.raises(errors.OrderError, match="since the parameters changed"):
            lstm.backward(y)
        with pytest.raises(errors.Error):
            lstm(x[..., :2])
    # The last call counts, of whichever mode.
    lstm = LSTM(3, 5, device="cpu")
    lstm(x)
    y, _ = lstm.eval()(x[:2])
    assert lstm.backward(y).x.shape == (2, 2, 3)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.parametrize(
    "layer", [LSTM(3, 5, 2, dropout=0.3, peepholes=True, device="cpu"), GRU(3, 4, dtype=np.float64, device="cpu"), RNN(3, 4)]
)
def test_copies_are_the_same_and_apart(layer, how, rng):
    x = rng.standard_normal((4, 2, 3)).astype(layer.dtype)
    layer.eval()
    other = how(layer)
    assert type(other) is type(layer) and repr(other) == repr(layer) and not other.training
    assert np.array_equal(other(x)[0], layer(x)[0])
    layer.train(), other.train()
    assert np.array_equal(other(x)[0], layer(x)[0])
    other.load_state_dict({name: value * 0 for name, value in other.state_dict().items()})
    assert layer.state_dict()["weight_ih_l0"].any()


def test_it_says_what_it_is():
    assert repr(LSTM(3, 5)) == "LSTM(3, 5)"
    assert repr(GRU(3, 5, 2, bias=False, bidirectional=True)) == "GRU(3, 5, num_layers=2, bias='none', bidirectional=True)"
    cpu = wgpu_rnn.devices()[0]
    assert cpu.name == "cpu" and "CPU executor" in cpu.description
    assert LSTM(3, 5, device="cpu:1").device == "CPU executor, 1 threads"


def test_eight_threads_on_one_layer(rng):
    lstm = LSTM(8, 16, 2, bidirectional=True, device="cpu", seed=1).eval()
    inputs = [rng.standard_normal((time, 3, 8)).astype(np.float32) for time in range(1, 9)]
    truths = [lstm(x)[0] for x in inputs]
    wrong, start = [], threading.Barrier(8)

    def run(n):
        start.wait()
        for _ in range(50):
            y, _ = lstm(inputs[n])
            if not np.array_equal(y, truths[n]):
                wrong.append(n)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


def test_eight_threads_train_one_layer(rng):
    lstm = LSTM(8, 16, device="cpu", seed=1)
    x = rng.standard_normal((9, 3, 8)).astype(np.float32)
    y, _ = lstm(x)
    truth = lstm.backward(y).params["weight_hh_l0"]
    wrong = []

    def run():
        for _ in range(20):
            (own, _, _), tape = lstm._core.train(x, None, None, None, None, None)
            if not np.array_equal(tape.backward(own)[3]["weight_hh_l0"], truth):
                wrong.append(1)

    threads = [threading.Thread(target=run) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


def test_others_run_while_it_computes():
    lstm = LSTM(64, 512, device="cpu:1").eval()
    x = np.zeros((400, 4, 64), np.float32)
    done, counted = threading.Event(), 0

    def run():
        lstm(x)
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    # With the interpreter's lock held, this thread would not come to its turn before it is done.
    while not done.is_set():
        counted += 1
    thread.join()
    assert counted > 100


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Linux tells the resident memory")
def test_ten_thousand_calls_take_no_memory(rng):
    lstm = LSTM(16, 32, device="cpu")
    inputs = [rng.standard_normal((time, 2, 16)).astype(np.float32) for time in range(1, 30)]

    def calls(count):
        for n in range(count):
            y, (hn, cn) = lstm.train(n % 3 != 0)(inputs[n % len(inputs)], lengths=[1, 1] if n % 2 else None)
            if n % 4:
                lstm.backward(y, hn, cn)

    calls(1000)
    gc.collect()
    before = resident()
    calls(10_000)
    gc.collect()
    assert resident() - before < 4 << 20
    assert max(lstm._core.sessions()) <= 16


def test_layers_give_their_memory_back():
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("Linux tells the resident memory")
    x = np.zeros((100, 8, 64), np.float32)

    def make():
        layer = LSTM(64, 128, 2, device="cpu")
        y, _ = layer(x)
        layer.backward(y)

    [make() for _ in range(10)]
    gc.collect()
    before = resident()
    [make() for _ in range(100)]
    gc.collect()
    # One of them takes more than 20 MB.
    assert resident() - before < 32 << 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_is_told():
    code = """
import os, numpy as np, wgpu_rnn
lstm = wgpu_rnn.LSTM(3, 5, device="cpu")
lstm(np.zeros((4, 2, 3), np.float32))
child = os.fork()
if child == 0:
    try:
        lstm(np.zeros((4, 2, 3), np.float32))
    except wgpu_rnn.errors.UnsupportedError as error:
        os._exit(0 if "spawn" in str(error) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
lstm(np.zeros((4, 2, 3), np.float32))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_tapes_come_back_while_others_compute(rng):
    """Dropped tapes give their sessions back without waiting, also where a call of another thread has the layer."""
    lstm = LSTM(16, 256, device="cpu", seed=1)
    x = rng.standard_normal((60, 4, 16)).astype(np.float32)
    stop = threading.Event()

    def run():
        while not stop.is_set():
            lstm._core.infer(x, None, None, None, None, False)

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(20):
        tapes = [lstm._core.train(x[:8], None, None, None, None, None)[1] for _ in range(3)]
        del tapes
    stop.set()
    thread.join()
    lstm._core.train(x[:8], None, None, None, None, None)
    # No more than there were at once, and what else they wait for.
    assert lstm._core.sessions()[0] <= 4
