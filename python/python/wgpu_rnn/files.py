"""Files of trained models, as people have them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _core
from ._arrays import Array, array_of, mismatch
from .errors import MismatchError, UnsupportedError
from .layers import GRU, LSTM, RNN, Layer

__all__ = ["LayerFile", "Model", "inspect", "load"]

_Path = str | os.PathLike[str]


def inspect(path: _Path) -> dict[str, Any]:
    """What is recurrent in a file, of any kind that is read here, and whether it runs as a whole: what ``wgpu-rnn inspect --json`` prints.

    Raises :class:`~wgpu_rnn.errors.FileError` for a file that cannot be read, or of another kind.
    """
    found: dict[str, Any] = json.loads(_core.inspect(path))
    return found


def load(path: _Path, device: str = "auto") -> Model | LayerFile:
    """Opens a file of a trained model. Its bytes tell what it is: ONNX and Keras files (``.keras``, ``.h5``) that say what follows on
    what are a :class:`Model`; files of named tensors (``.pt``, ``.pth``, ``.safetensors``, ``.npz``) are a :class:`LayerFile`.

    Raises :class:`~wgpu_rnn.errors.FileError` for a file that cannot be read, or of another kind;
    :class:`~wgpu_rnn.errors.UnsupportedError` for an operator or layer that there is not.
    """
    return LayerFile(path, device) if _core.holds_tensors(path) else Model(path, device)


class Model:
    """A whole model: inputs and outputs by name. Made by :func:`load`.

    Shapes may be others at every run; what is made for them is kept for the next. It may be called from several threads; they take turns.
    """

    def __init__(self, path: _Path, device: str = "auto", *, data: bytes | None = None) -> None:
        self._core = _core.Model(path, device, data)
        self.path = os.fspath(path)
        """The file."""

    @property
    def inputs(self) -> dict[str, str]:
        """The axes of every input in words, by name: ``[batch, 10, 8]``; open ones by their names, or ``?``."""
        return dict(self._core.inputs())

    @property
    def outputs(self) -> dict[str, str]:
        """The same of the outputs."""
        return dict(self._core.outputs())

    def inspect(self) -> dict[str, Any]:
        """:func:`inspect` of its file."""
        return inspect(self.path)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Runs it: every input by name, as the model has it (the batch in front, mostly), float32; token ids, lengths and other whole
        numbers and booleans of any type. Gives every output by name, in float32.

        Raises :class:`~wgpu_rnn.errors.MismatchError` for inputs that are missing, unknown or of other shapes, and
        :class:`~wgpu_rnn.errors.UnsupportedError` for an operator that there is not.
        """
        return self._core.run({name: _number(name, value) for name, value in inputs.items()})

    def __repr__(self) -> str:
        return f"Model({self.path!r}, inputs={self.inputs}, outputs={self.outputs})"


def _number(name: str, value: object) -> Array:
    """Whole numbers and booleans in float32, which must have them exactly; float32 as it is."""
    array = value if isinstance(value, np.ndarray) else array_of(name, value)
    if array.dtype.kind not in "iub":
        return array
    exact = np.asarray(array, np.float32)
    if not np.array_equal(exact.astype(np.float64), array.astype(np.float64)):
        raise mismatch(name, "whole numbers that float32 has (below 2**24)", f"up to {array.max()}")
    return exact


class LayerFile:
    """A file of named tensors, and the recurrent layers in it, under the names of whatever tool wrote them. Made by :func:`load`."""

    def __init__(self, path: _Path, device: str = "auto") -> None:
        self._core = _core.Tensors(path)
        self._device = device
        self._only: Layer | None = None
        self.path = os.fspath(path)
        """The file."""

    @property
    def names(self) -> list[str]:
        """Of all tensors, in alphabetical order."""
        return self._core.names()

    @property
    def layers(self) -> list[str]:
        """Of the recurrent layers and stacks: what stands before the names of their tensors."""
        return self._core.layers()

    def tensor(self, name: str) -> Array:
        """A tensor's values, rounded to float32."""
        return self._core.tensor(name)

    def layer(self, name: str | None = None, **more: Any) -> Layer:
        """A recurrent layer or stack by its name, or the only one, in evaluation: an :class:`~wgpu_rnn.LSTM`, :class:`~wgpu_rnn.GRU` or
        :class:`~wgpu_rnn.RNN` with the file's parameters. ``more``: what the file does not say, as ``batch_first=True``.

        Raises :class:`~wgpu_rnn.errors.MismatchError` for a name that is not there, or none where there are several.
        """
        found, parameters = self._core.layer(name)
        return _made(found, parameters, {"device": self._device, **more})

    def run(self, inputs: Mapping[str, Any], *, lengths: Any = None) -> dict[str, Array]:
        """Runs the only layer of the file: ``{"x": [T, B, I]}``, and ``"h0"`` and ``"c0"`` where they are not zeros, to ``"y"``,
        ``"hn"`` and, of an LSTM, ``"cn"``."""
        unknown = set(inputs) - {"x", "h0", "c0"}
        if unknown or "x" not in inputs:
            error = MismatchError(f"inputs: expected x, and h0 and c0 if they are not zeros, got {', '.join(inputs) or 'none'}")
            error.what = "inputs"
            raise error
        layer = self._only = self._only or self.layer()
        y, hn, cn = layer._call(inputs["x"], inputs.get("h0"), inputs.get("c0"), lengths, None)
        return {"y": y, "hn": hn} | ({} if cn is None else {"cn": cn})

    def inspect(self) -> dict[str, Any]:
        """:func:`inspect` of the file."""
        return inspect(self.path)

    def __repr__(self) -> str:
        return f"LayerFile({self.path!r}, layers={self.layers})"


def _made(found: dict[str, Any], parameters: dict[str, Array], more: dict[str, Any]) -> Layer:
    """A layer of what a file says."""
    cell, direction = found.pop("cell"), found.pop("direction")
    makers: dict[str, tuple[type[Layer], dict[str, Any]]] = {
        "lstm": (LSTM, {}),
        "lstm-peephole": (LSTM, {"peepholes": True}),
        "lstm-layer-norm": (LSTM, {"layer_norm": True}),
        "gru": (GRU, {}),
        "gru-reset-before": (GRU, {"reset_before": True}),
        "gru-layer-norm": (GRU, {"layer_norm": True}),
        "rnn-tanh": (RNN, {"nonlinearity": "tanh"}),
        "rnn-relu": (RNN, {"nonlinearity": "relu"}),
    }
    if cell not in makers:
        raise UnsupportedError(f"not supported: {cell}: no layer of this package has this cell")
    maker, own = makers[cell]
    if maker is not LSTM:
        for name in ("proj_size", "cell_clip", "input_forget"):
            found.pop(name)
    ways = {"bidirectional": direction == "bidirectional", "reverse": direction == "reverse"}
    layer: Layer = maker(**(found | own | ways | more))
    layer.load_state_dict(parameters)
    return layer.eval()
