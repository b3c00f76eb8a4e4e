"""Files as people have them, and the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

import wgpu_rnn
from wgpu_rnn import errors

MODELS = ROOT / "examples" / "models"


def test_a_file_of_tensors_gives_its_layer(rng):
    file = wgpu_rnn.load(MODELS / "silero_vad" / "weights.safetensors", device="cpu")
    assert isinstance(file, wgpu_rnn.LayerFile) and file.layers == ["lstm"]
    lstm = file.layer()
    assert isinstance(lstm, wgpu_rnn.LSTM) and (lstm.input_size, lstm.hidden_size, lstm.training) == (128, 128, False)
    assert np.array_equal(lstm.state_dict("lstm.")["lstm.weight_ih_l0"], file.tensor("lstm.weight_ih_l0"))
    x = rng.standard_normal((5, 2, 128)).astype(np.float32)
    y, (hn, cn) = lstm(x)
    out = file.run({"x": x})
    assert np.array_equal(out["y"], y) and np.array_equal(out["hn"], hn) and np.array_equal(out["cn"], cn)
    assert [part["name"] for part in file.inspect()["parts"]] == ["lstm"]
    with pytest.raises(errors.MismatchError, match="x"):
        file.run({"y": x})
    with pytest.raises(errors.Error, match="encoder"):
        file.layer("encoder")
    with pytest.raises(errors.MismatchError, match="tensor"):
        file.tensor("nothing")


def test_a_file_with_several_layers_wants_a_name():
    file = wgpu_rnn.load(MODELS / "g2p_en" / "weights.safetensors", device="cpu")
    assert file.layers == ["dec", "enc"]
    assert isinstance(file.layer("enc", batch_first=True), wgpu_rnn.GRU)
    with pytest.raises(errors.Error, match="dec"):
        file.layer()


def test_a_whole_onnx_model_runs():
    folder = ROOT / "tests" / "data" / "onnx_node"
    models = sorted(folder.glob("*/model.onnx")) or sorted(folder.glob("**/*.onnx"))
    assert models
    model = wgpu_rnn.load(models[0], device="cpu")
    assert isinstance(model, wgpu_rnn.Model) and model.inputs and model.outputs
    with pytest.raises(errors.Error):
        model.run({})
    with pytest.raises(errors.DTypeError, match="X"):
        model.run({name: np.zeros(3) for name in model.inputs})
    assert model.inspect()["kind"] == "Onnx"


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"", errors.FileError), (b"not a model at all", errors.FileError), (b"PK\x03\x04" + b"\0" * 40, errors.FileError)],
)
def test_other_files_are_refused(tmp_path, data, kind):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    for read in (wgpu_rnn.load, wgpu_rnn.inspect):
        with pytest.raises(kind, match="model.onnx") as caught:
            read(path)
        assert isinstance(caught.value, OSError) and caught.value.path == str(path)


def test_a_file_that_is_not_there():
    with pytest.raises(errors.FileError, match="nowhere"):
        wgpu_rnn.load("nowhere.pt")


def run(*args):
    return subprocess.run([sys.executable, "-m", "wgpu_rnn", *args], capture_output=True, text=True, timeout=120)


def test_the_command_line():
    assert "Usage: wgpu-rnn" in run("--help").stdout
    wrong = run("nothing")
    assert wrong.returncode == 2 and "nothing" in wrong.stderr
    missing = run("inspect", "nowhere.pt")
    assert missing.returncode == 2 and missing.stderr.startswith("error: nowhere.pt")
    found = run("inspect", "--json", str(MODELS / "silero_vad" / "weights.safetensors"))
    assert found.returncode == 0 and json.loads(found.stdout)["parts"][0]["cell"] == "lstm"
