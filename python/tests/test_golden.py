"""Values and gradients against what PyTorch made of the same layers, in float64 and in float32, on the CPU executor."""

import numpy as np
import pytest
from conftest import Golden, goldens

import wgpu_rnn

ALL = goldens()


def layer_of(golden: Golden, dtype: type, **more):
    of = golden.config
    options = {
        "num_layers": of["num_layers"],
        "bias": of["bias"],
        "batch_first": of["batch_first"],
        "bidirectional": of["bidirectional"],
        "dtype": dtype,
        "device": "cpu",
        **more,
    }
    if of["kind"] == "LSTM":
        layer = wgpu_rnn.LSTM(of["input_size"], of["hidden_size"], proj_size=of["proj_size"], **options)
    elif of["kind"] == "GRU":
        layer = wgpu_rnn.GRU(of["input_size"], of["hidden_size"], **options)
    else:
        layer = wgpu_rnn.RNN(of["input_size"], of["hidden_size"], nonlinearity=of["nonlinearity"], **options)
    layer.load_state_dict(golden.tensors, prefix="w.")
    return layer


def run(layer, golden: Golden, dtype: type):
    """Outputs by name, and the gradients from the recorded upstream ones."""
    x, h0, c0 = (golden.get(name, dtype) for name in ("in.x", "in.h0", "in.c0"))
    lengths = golden.tensors.get("in.lengths")
    if golden.config["kind"] == "LSTM":
        y, (hn, cn) = layer(x, None if h0 is None else (h0, c0), lengths=lengths)
        found = {"out.y": y, "out.hn": hn, "out.cn": cn}
        g = layer.backward(*(golden.get(name, dtype) for name in ("up.y", "up.hn", "up.cn")))
    else:
        y, hn = layer(x, h0, lengths=lengths)
        found = {"out.y": y, "out.hn": hn}
        g = layer.backward(*(golden.get(name, dtype) for name in ("up.y", "up.hn")))
    found |= {"grad.x": g.x, "grad.h0": g.h0} | {f"grad.{name}": value for name, value in g.params.items()}
    if g.c0 is not None:
        found["grad.c0"] = g.c0
    return found


def test_there_are_goldens_of_every_kind():
    assert len(ALL) == 26
    assert {golden.config["kind"] for golden in ALL} == {"LSTM", "GRU", "RNN"}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("golden", ALL, ids=lambda golden: golden.name)
def test_values_and_gradients_are_pytorchs(golden: Golden, dtype: type, mode: str):
    layer = layer_of(golden, dtype)
    layer.train(mode == "train")
    found = run(layer, golden, dtype)
    wanted = {name: value for name, value in golden.tensors.items() if name.startswith(("out.", "grad.")) and name != "out.loss"}
    assert wanted.keys() <= found.keys()
    for name, truth in wanted.items():
        assert found[name].dtype == dtype
        assert found[name].shape == truth.shape, name
        scale = np.abs(truth).max()
        # Of float32: some roundings of a sum of all steps; tests of the Rust library hold them to a naive loop's.
        bound = (1e-10 if dtype == np.float64 else 5e-5) * scale
        assert np.abs(found[name] - truth).max() <= bound, name


@pytest.mark.parametrize("golden", ALL, ids=lambda golden: golden.name)
def test_what_training_keeps_changes_no_result(golden: Golden):
    results = [run(layer_of(golden, np.float64, memory=memory), golden, np.float64) for memory in ("save", "recompute", "checkpoint=64")]
    for name, value in results[0].items():
        for other in results[1:]:
            np.testing.assert_allclose(other[name], value, rtol=1e-9, atol=1e-11, err_msg=name)
