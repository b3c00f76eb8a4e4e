"""Networks: trained on the device as NumPy would with the layers' own gradients, evaluated, stopped early, resumed, copied."""

import copy
import doctest
import pickle

import numpy as np
import pytest

import wgpu_rnn
from wgpu_rnn import Network, errors, network


def tagger(seed=1, **options):
    net = Network("cpu", seed=seed)
    ids = net.input("ids", 1)
    y = net.gru("gru", net.embedding("embed", ids, 12, 8), 16, bidirectional=True, **options)
    logits = net.linear("head", y, 3)
    net.output("logits", logits)
    net.loss(logits, net.input("label", 1), "cross_entropy")
    return net


def batches(rng, count=4, labelled=lambda ids: ids % 3):
    made = []
    for n in range(count):
        ids = rng.integers(0, 12, (5 + n, 3 + n % 2))
        made.append({"ids": ids, "label": labelled(ids), "lengths": rng.integers(1, 6 + n, ids.shape[1])})
    return made


def test_a_tagger_learns(rng, capsys):
    net, data = tagger(), batches(rng)
    history = net.fit(data, epochs=40, lr=0.02, clip_norm=1.0, validation=data[:1])
    assert len(history.loss) == len(history.validation) == 40 and history.loss[-1] < 0.05 * history.loss[0]
    assert "epoch 40/40: loss" in capsys.readouterr().err
    for batch in data:
        logits = net.predict({"ids": batch["ids"]}, batch["lengths"])["logits"]
        there = np.arange(len(logits))[:, None] < batch["lengths"]
        assert np.array_equal(logits.argmax(axis=2)[there], batch["label"][there]) and not logits[~there].any()
    np.testing.assert_allclose(net.evaluate(data[:1]), history.validation[-1], rtol=1e-5)


def test_a_step_is_the_layers_own_gradient(rng):
    """Gradient descent over a layer and a head, beside the same in NumPy with `LSTM.backward`."""
    net = Network("cpu", seed=3)
    x = net.input("x", 4)
    last = net.last_of("last", net.lstm("lstm", x, 6))
    out = net.linear("head", last, 2)
    net.output("out", out)
    net.loss(out, net.sequence_input("target", 2), "mean_squared")
    lstm = wgpu_rnn.LSTM(4, 6, device="cpu")
    state = net.state_dict()
    data = {
        "x": rng.standard_normal((5, 3, 4)).astype(np.float32),
        "target": rng.standard_normal((3, 2)).astype(np.float32),
        "lengths": [5, 2, 4],
    }
    history = net.fit([data], optimiser="sgd", lr=0.1, epochs=3, progress=False)
    w, b = state["head.weight"], state["head.bias"]
    for loss in history.loss:
        lstm.load_state_dict({name: value for name, value in state.items() if name.startswith("lstm.")}, prefix="lstm.")
        _, (hn, _) = lstm(data["x"], lengths=data["lengths"])
        error = hn[0] @ w.T + b - data["target"]
        np.testing.assert_allclose((error**2).mean(), loss, rtol=1e-5)
        up = 2 * error / error.size
        g = lstm.backward(dhn=(up @ w)[None])
        state = {
            name: value - 0.1 * g.params[name.removeprefix("lstm.")] if name.startswith("lstm.") else value for name, value in state.items()
        }
        w, b = w - 0.1 * up.T @ hn[0], b - 0.1 * up.sum(axis=0)
    found = net.state_dict()
    np.testing.assert_allclose(found["head.weight"], w, atol=1e-6)
    np.testing.assert_allclose(found["lstm.weight_hh_l0"], state["lstm.weight_hh_l0"], atol=1e-6)


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_every_operation_and_optimiser(rng, optimiser):
    net = Network("cpu", seed=2)
    x = net.input("x", 3)
    h = net.map("relu", net.norm("norm", net.linear("in", x, 8)), "relu")
    y = net.rnn("rnn", net.lstm("lstm", h, 8, 2, dropout=0.1, peepholes=True), 8, reverse=True)
    rows = [net.pool(kind, y, kind) for kind in ("last", "first", "mean", "max")]
    out = net.linear("out", net.concat("all", *rows, net.last_of("end", y)), 1, bias=False)
    net.output("out", out)
    net.loss(out, net.sequence_input("t", 1), "mean_squared", net.sequence_input("w", 1))
    data = {
        "x": rng.standard_normal((6, 4, 3)).astype(np.float32),
        "t": np.array([1.0, 0.0, 1.0, 0.0], np.float32),
        "w": np.ones(4, np.float32),
    }
    history = net.fit(
        [data],
        optimiser=optimiser,
        momentum=0.9,
        lr=lambda step: (0.1 if optimiser == "sgd" else 0.02) / (1 + step / 300),
        epochs=200,
        clip_norm=1.0,
        progress=False,
    )
    assert history.loss[-1] < 0.3 * history.loss[0]
    assert net.predict({"x": data["x"]})["out"].shape == (4, 1)


def test_it_stops_early_and_goes_back_to_the_best(rng):
    net, data = tagger(), batches(rng)
    wrong = batches(rng, 2, labelled=lambda ids: (ids + 1) % 3)
    history = net.fit(data, epochs=100, lr=0.05, validation=wrong, patience=3, progress=False)
    assert history.stopped and len(history.loss) < 100
    losses = [net.evaluate([batch]) for batch in wrong]
    np.testing.assert_allclose(np.mean(losses), min(history.validation), rtol=1e-4)
    history = tagger().fit(data, epochs=9, progress=False, callbacks=[lambda epoch, history: epoch == 2])
    assert history.stopped and len(history.loss) == 3


def test_a_checkpoint_goes_on(rng, tmp_path):
    data, path = batches(rng), tmp_path / "run.npz"
    whole, first, second = tagger(), tagger(), tagger(seed=9)
    # Without moments a run in two parts is the run in one.
    options = {"optimiser": "sgd", "lr": 0.1, "progress": False}
    history = whole.fit(data, epochs=6, **options)
    first.fit(data, epochs=3, checkpoint=path, **options)
    resumed = second.fit(data, epochs=6, checkpoint=path, resume=True, **options)
    np.testing.assert_allclose(resumed.loss, history.loss, rtol=1e-6)
    for name, value in whole.state_dict().items():
        np.testing.assert_allclose(second.state_dict()[name], value, atol=1e-7)


def test_copies_and_parameters(rng):
    net, data = tagger(), batches(rng)
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        a, b = (n.fit(data, epochs=2, progress=False).loss for n in (copy.deepcopy(net), other))
        assert a == b
    net.fit(data, epochs=2, progress=False)
    other = pickle.loads(pickle.dumps(net))
    ids = {"ids": data[0]["ids"]}
    assert np.array_equal(other.predict(ids)["logits"], net.predict(ids)["logits"])
    state = net.state_dict()
    assert state["embed.weight"].shape == (12, 8) and state["head.bias"].shape == (3,)
    other.load_state_dict({name: value * 0 for name, value in state.items()})
    assert not other.predict(ids)["logits"].any()
    for bad in ({}, state | {"more": state["head.bias"]}, state | {"head.bias": np.zeros(4, np.float32)}):
        with pytest.raises(errors.MismatchError):
            net.load_state_dict(bad)


def test_what_does_not_fit_is_said(rng):
    data = batches(rng)
    ids = data[0]["ids"]
    for bad, words in [
        ({"ids": ids}, "label"),
        (data[0] | {"other": ids}, "other"),
        (data[0] | {"ids": ids[:, :2]}, "one T and one B"),
        (data[0] | {"lengths": [1, 2]}, "lengths"),
        (data[0] | {"lengths": [99, 1, 1]}, "lengths"),
        (data[0] | {"ids": ids + 100}, "id 0 of embed"),
        (data[0] | {"label": ids * 0 + 3}, "loss of head and label"),
        (data[0] | {"ids": ids * 1.0}, "float32"),
    ]:
        with pytest.raises(errors.MismatchError, match=words):
            tagger().fit([bad], progress=False)
    for options, words in [
        ({"optimiser": "lbfgs"}, "adamw"),
        ({"lr": -1.0}, "learning rate"),
        ({"memory": "x"}, "memory"),
        ({"resume": True}, "checkpoint"),
    ]:
        with pytest.raises(errors.MismatchError, match=words):
            tagger().fit(data, progress=False, **options)
    with pytest.raises(errors.MismatchError, match="batches"):
        tagger().fit([], progress=False)
    net = Network("cpu")
    net.output("y", net.lstm("lstm", net.input("x", 3), 4))
    with pytest.raises(errors.OrderError, match="loss"):
        net.fit(data)
    net.predict({"x": np.zeros((2, 1, 3), np.float32)})
    with pytest.raises(errors.OrderError, match="finished"):
        net.input("late", 1)
    net = Network("cpu")
    x = net.input("x", 3)
    for call in (
        lambda: net.input("x", 3),
        lambda: net.pool("p", x, "median"),
        lambda: net.map("m", x, "sin"),
        lambda: net.last_of("l", x),
        lambda: net.embedding("e", x, 5, 5),
    ):
        with pytest.raises(errors.MismatchError):
            call()
    with pytest.raises(TypeError, match="hiden"):
        net.lstm("lstm", x, 4, hiden=1)


def test_examples():
    assert doctest.testmod(network).failed == 0
